//! Which of the kernel's events are meant, and switching them on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, anyhow, ensure};

use super::config::Wanted;
use super::decoder::{EventFormat, Formats};
use super::instance::Instance;
use crate::config::problem::suggest;
use rbpipe_backends::glob;

/// An event of the kernel's, and what its records must fulfil.
#[derive(Debug, PartialEq, Eq)]
pub struct Selected {
    pub system: String,
    pub name: String,
    pub filter: Option<String>,
}

/// A pattern: `SYSTEM:EVENT`; without a colon, a system's or an event's name, as the kernel's
/// own `set_event` takes it.
struct Pattern<'a>(Option<&'a str>, &'a str);

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((system, "")) => Self(Some(system), "*"),
            Some((system, event)) => Self(Some(system), event),
            None => Self(None, text),
        }
    }
    fn matches(&self, system: &str, event: &str) -> bool {
        let is = |pattern: &str, name: &str| glob::matches(pattern.as_bytes(), name.as_bytes());
        match self.0 {
            Some(pattern) => is(pattern, system) && is(self.1, event),
            None => is(self.1, system) || is(self.1, event),
        }
    }
}

/// The events among `available` (lines of `SYSTEM:EVENT`) that are meant.
///
/// # Errors
/// A pattern that means none.
pub fn select(
    available: &str,
    wanted: &[Wanted],
    filter: Option<&str>,
) -> anyhow::Result<Vec<Selected>> {
    let all: Vec<(&str, &str)> = available.lines().filter_map(|l| l.split_once(':')).collect();
    // Without doubles, in the order of systems.
    let mut chosen: BTreeMap<(&str, &str), Option<&str>> = BTreeMap::new();
    for w in wanted.iter().filter(|w| !w.pattern.starts_with('!')) {
        let pattern = Pattern::new(&w.pattern);
        let before = chosen.len();
        let mut any = false;
        for (system, name) in all.iter().filter(|(s, n)| pattern.matches(s, n)) {
            any = true;
            // A filter of its own is meant for it, whatever else names it.
            let of = chosen.entry((system, name)).or_insert(filter);
            *of = w.filter.as_deref().or(*of);
        }
        if !any && chosen.len() == before {
            let names: Vec<String> = all.iter().map(|(s, n)| format!("{s}:{n}")).collect();
            let like = nearest(&w.pattern, &names);
            return Err(anyhow!("this kernel has no event {:?}{like}", w.pattern));
        }
    }
    for w in wanted.iter().filter_map(|w| w.pattern.strip_prefix('!')) {
        let pattern = Pattern::new(w);
        chosen.retain(|(system, name), _| !pattern.matches(system, name));
    }
    ensure!(!chosen.is_empty(), "`events` takes away all that it names");
    let selected = chosen.into_iter().map(|((system, name), filter)| Selected {
        system: system.to_owned(),
        name: name.to_owned(),
        filter: filter.map(str::to_owned),
    });
    Ok(selected.collect())
}

/// What else may have been meant.
fn nearest(wanted: &str, names: &[String]) -> String {
    let systems = names.iter().filter_map(|n| n.split_once(':')).map(|(s, _)| s);
    let mut all: Vec<&str> = names.iter().map(String::as_str).chain(systems).collect();
    all.sort_unstable();
    all.dedup();
    let said = suggest(wanted, all.iter().copied());
    // Without the list of all: hundreds of names are no help.
    let near = said.split_once("? accepted").filter(|(near, _)| near.starts_with("did you mean"));
    near.map_or(String::new(), |(near, _)| format!("; {near}?"))
}

/// Reads the formats of the selected events, and of those that markers make.
///
/// # Errors
/// A format that cannot be read.
pub fn formats(instance: &Instance, events: &[Selected]) -> anyhow::Result<Formats> {
    let mut formats = Formats::new();
    for e in events {
        let text = instance.get(&format!("events/{}/{}/format", e.system, e.name))?;
        let format = EventFormat::parse(&e.system, &e.name, &text)
            .with_context(|| format!("{}:{}", e.system, e.name))?;
        formats.add(format);
    }
    // What programs write into `trace_marker` and `trace_marker_raw`, and stack traces that a
    // trigger asks for: always possible, never switched on.
    for name in ["print", "raw_data", "bprint", "bputs", "kernel_stack", "user_stack"] {
        let path = instance.tracefs().path(&format!("events/ftrace/{name}/format"));
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        match EventFormat::parse("ftrace", name, &text) {
            Ok(format) => {
                formats.add(format);
            }
            Err(e) => tracing::debug!("ftrace:{name}: {e}"),
        }
    }
    Ok(formats)
}

/// Switches the events on, each with its filter first.
///
/// # Errors
/// The event, and what the kernel says of it.
pub fn switch_on(instance: &Instance, events: &[Selected]) -> anyhow::Result<()> {
    for e in events {
        let directory = format!("events/{}/{}", e.system, e.name);
        if let Some(filter) = &e.filter {
            let file = format!("{directory}/filter");
            if let Err(error) = instance.write(&file, filter) {
                let said = instance.get(&file).unwrap_or_default();
                return Err(refused(e, filter, &said, &error));
            }
        }
        instance.set(&format!("{directory}/enable"), "1")?;
    }
    Ok(())
}

/// The kernel's own words on a filter: the expression, a caret under the place, a reason.
fn refused(event: &Selected, filter: &str, said: &str, error: &std::io::Error) -> anyhow::Error {
    let (system, name) = (&event.system, &event.name);
    let reason = said.lines().find_map(|l| l.strip_prefix("parse_error: "));
    let mut text = format!("{system}:{name}: the kernel refuses its filter");
    let _ = match reason {
        Some(reason) => {
            let picture = said.lines().take_while(|l| !l.starts_with("parse_error"));
            let picture: Vec<String> = picture.map(|l| format!("    {l}")).collect();
            write!(text, ": {reason}\n{}", picture.join("\n"))
        }
        None => write!(text, " {filter:?}: {error}"),
    };
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVAILABLE: &str = "sched:sched_switch\nsched:sched_wakeup\nsched:sched_stat_wait\n\
                             irq:softirq_entry\nirq:softirq_exit\ntimer:timer_start\n";

    fn wanted(patterns: &[&str]) -> Vec<Wanted> {
        patterns.iter().map(|p| Wanted { pattern: (*p).into(), filter: None }).collect()
    }
    fn names(patterns: &[&str]) -> Vec<String> {
        let selected = select(AVAILABLE, &wanted(patterns), None).unwrap();
        selected.iter().map(|s| format!("{}:{}", s.system, s.name)).collect()
    }

    #[test]
    fn patterns_mean_what_they_say() {
        assert_eq!(names(&["sched:sched_switch"]), ["sched:sched_switch"]);
        assert_eq!(names(&["sched:*", "!sched:sched_stat*"]).len(), 2);
        assert_eq!(names(&["!sched:sched_stat*", "sched"]).len(), 2, "in any order");
        assert_eq!(names(&["softirq_*"]), ["irq:softirq_entry", "irq:softirq_exit"]);
        assert_eq!(names(&["irq:"]).len(), 2);
        assert_eq!(names(&["*:*"]).len(), 6);
        assert_eq!(names(&["irq:*", "irq:softirq_exit"]).len(), 2, "none twice");
    }

    #[test]
    fn what_means_nothing_is_an_error() {
        let error = |p: &[&str]| select(AVAILABLE, &wanted(p), None).unwrap_err().to_string();
        let said = error(&["sched:sched_swich"]);
        assert!(said.contains("did you mean") && said.contains("sched:sched_switch"), "{said}");
        assert!(error(&["nothing:*"]).contains("no event \"nothing:*\""));
        assert!(error(&["irq:*", "!irq:*"]).contains("takes away all"));
    }

    #[test]
    fn a_filter_of_its_own_is_stronger() {
        let mut w = wanted(&["irq:*"]);
        w.push(Wanted { pattern: "irq:softirq_exit".into(), filter: Some("vec == 1".into()) });
        let selected = select(AVAILABLE, &w, Some("common_pid != 0")).unwrap();
        let filters: Vec<_> = selected.iter().map(|s| s.filter.as_deref().unwrap()).collect();
        assert_eq!(filters, ["common_pid != 0", "vec == 1"]);
    }
}
