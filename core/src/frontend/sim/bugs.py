#!/usr/bin/env python3
"""Plants one bug at a time in a copy of the engine, and shows which test catches it, by which
claim, after how many seeds. A bug that nobody catches is an error: of the tests.

    core/src/frontend/sim/bugs.py [word in a bug's name ...]     RBPIPE_SEEDS=n

Those with a name in capitals are ring.pml's. Each is a mistake that somebody could make.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[4]
COPY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bugs"
SEEDS = os.environ.get("RBPIPE_SEEDS", "60000")

# (name, file below core/src, [(what is there, what stands there instead), ...])
BUGS = [
    (
        "FAST_NOREF: only the opener clears noref",
        "frontend/reserve.rs",
        [(
            "let memory = self.enter(index);\n        Grant",
            "let opens = self.geometry.offset(start) == 0;\n        let memory = if opens "
            "{ self.enter(index) } else { self.table(index).memory() };\n        Grant",
        )],
    ),
    (
        "NOREF_LATE: memory index taken before noref is cleared",
        "frontend/reserve.rs",
        [
            ("let mut id = self.table(j);", "let mut id = self.table(j);\n        let early = id.memory();"),
            ("        self.memory(id)\n    }", "        early\n    }"),
        ],
    ),
    (
        "noref: a compare-and-swap that failed is taken for done",
        "frontend/reserve.rs",
        [("Err(found) => id = SubBufferId::from_word(found),", "Err(_) => break,")],
    ),
    (
        "MEM_EARLY: memory index loaded before the reserve",
        "frontend/reserve.rs",
        [
            ("if let Err(lost) = self.may_open(begin) {",
             "let early = self.table(g.index(begin)).memory();\n        if let Err(lost) = self.may_open(begin) {"),
            ("let grant = self.grant(begin, g.header() as u32, now, &whole);",
             "let grant = Grant { memory: early, ..self.grant(begin, g.header() as u32, now, &whole) };"),
        ],
    ),
    (
        "MEM_EARLY on the fast path",
        "frontend/reserve.rs",
        [
            ("let now = self.time(layout);\n        let room = g.subbuf_size() - offset;",
             "let early = self.table(g.index(old)).memory();\n        let now = self.time(layout);\n"
             "        let room = g.subbuf_size() - offset;"),
            ("Some(self.grant(old, 0, now, &m))\n    }\n\n    /// Reserves room",
             "Some(Grant { memory: early, ..self.grant(old, 0, now, &m) })\n    }\n\n    /// Reserves room"),
        ],
    ),
    (
        "NOCC: `delivered` is not looked at before a sub-buffer is opened",
        "frontend/reserve.rs",
        [("if delivered == g.before(begin) { Ok(()) }", "if delivered <= u64::MAX { Ok(()) }")],
    ),
    (
        "NORECHECK: no second look at write_pos before a loss",
        "frontend/reserve.rs",
        [("if self.word(WRITE_POS).load(Ordering::Relaxed) != old.get() {", "if false {")],
    ),
    (
        "full: one sub-buffer too late",
        "frontend/reserve.rs",
        [("begin.from(consumed) >= g", "begin.from(consumed) > g")],
    ),
    (
        "full: one sub-buffer too early",
        "frontend/reserve.rs",
        [("begin.from(consumed) >= g.buffer_size().cast_signed()",
          "begin.from(consumed) >= (g.buffer_size() - g.subbuf_size()).cast_signed()")],
    ),
    (
        "DELIVER_ORDER: `delivered` before the table",
        "frontend/commit.rs",
        [
            ("        self.cold(i, TABLE).store(id, Ordering::Relaxed);\n",
             "        self.cold(i, DELIVERED).store(g.complete(start), Ordering::Release);\n"
             "        self.cold(i, TABLE).store(id, Ordering::Relaxed);\n"),
        ],
    ),
    (
        "TWO_DELIVER: completeness by a second load",
        "frontend/commit.rs",
        [("let after = P::fetch_add(self.hot(i, COMMITTED), value).wrapping_add(value);",
          "P::fetch_add(self.hot(i, COMMITTED), value);\n"
          "        let after = self.hot(i, COMMITTED).load(Ordering::Acquire);")],
    ),
    (
        "recorded after the packet can be seen",
        "frontend/commit.rs",
        [
            ("        self.word(RECORDED).fetch_add(claimed.facts.records, Ordering::Relaxed);\n", ""),
            ('step!("deliver: delivered");',
             "self.word(RECORDED).fetch_add(claimed.facts.records, Ordering::Relaxed);"),
        ],
    ),
    (
        "records are taken out after `delivered`",
        "frontend/commit.rs",
        [
            ("        self.hot(i, COMMITTED).store(committed, Ordering::Relaxed);\n", ""),
            ('step!("deliver: delivered");', "self.hot(i, COMMITTED).store(committed, Ordering::Relaxed);"),
        ],
    ),
    (
        "SMP_DELIVERY: the sum of losses sampled at delivery",
        "frontend/commit.rs",
        [("lost: fact(FACT_LOST),", "lost: fact(FACT_LOST).max(self.lost_sum()),")],
    ),
    (
        "SMP_LATE: the sum of losses sampled after the compare-and-swap",
        "frontend/reserve.rs",
        [("self.close(g.index(old), old, Some(now), lost);",
          "self.close(g.index(old), old, Some(now), self.lost_sum());")],
    ),
    (
        "a switch samples losses before its loop",
        "frontend/reserve.rs",
        [
            ("let g = self.geometry;\n        loop {\n            let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);\n"
             "            let old = Position::new(word);\n            let offset = g.offset(old);",
             "let g = self.geometry;\n        let lost = self.lost_sum();\n        loop {\n"
             "            let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);\n"
             "            let old = Position::new(word);\n            let offset = g.offset(old);"),
            ("            let lost = self.lost_sum();\n            let padding", "            let padding"),
        ],
    ),
    (
        "a switch reads the clock before its loop",
        "frontend/reserve.rs",
        [
            ("let g = self.geometry;\n        loop {\n            let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);\n"
             "            let old = Position::new(word);\n            let offset = g.offset(old);",
             "let g = self.geometry;\n        let end = (self.timestamps == Timestamps::Clock).then(&mut now);\n        loop {\n"
             "            let word = load_to_change(self.word(WRITE_POS), Ordering::Acquire);\n"
             "            let old = Position::new(word);\n            let offset = g.offset(old);"),
            ("            let end = (self.timestamps == Timestamps::Clock).then(&mut now);\n            let lost",
             "            let lost"),
        ],
    ),
    (
        "the clock is read before the retry loop",
        "frontend/reserve.rs",
        [
            ("        loop {\n            if let Some(grant) = self.reserve_fast(layout) {",
             "        let now = self.time(layout);\n        loop {\n            if let Some(grant) = self.reserve_fast(layout) {"),
            ("            let now = self.time(layout);\n            if let Some(result)", "            if let Some(result)"),
        ],
    ),
    (
        "the closer's facts after its add",
        "frontend/reserve.rs",
        [("            self.close(g.index(old), old, Some(now), lost);\n"
          "            self.add(g.index(old), old, begin.from(old).cast_unsigned(), 0)\n",
          "            let closing = self.add(g.index(old), old, begin.from(old).cast_unsigned(), 0);\n"
          "            self.close(g.index(old), old, Some(now), lost);\n            closing\n")],
    ),
    (
        "a record that ends at the boundary has no closer",
        "frontend/reserve.rs",
        [("if m.size >= room || ", "if m.size > room || ")],
    ),
    (
        "last_timestamp before the compare-and-swap",
        "frontend/reserve.rs",
        [("        if P::compare_exchange(self.word(WRITE_POS), old.get(), new.get()).is_err() {\n            return false;",
          "        self.word(LAST_TIMESTAMP).store(m.end, Ordering::Relaxed);\n"
          "        if P::compare_exchange(self.word(WRITE_POS), old.get(), new.get()).is_err() {\n            return false;")],
    ),
    (
        "last_timestamp is never stored",
        "frontend/reserve.rs",
        [("self.word(LAST_TIMESTAMP).store(m.end, Ordering::Relaxed);\n        true", "true")],
    ),
    (
        "finalised by an operation of its own",
        "frontend/reserve.rs",
        [
            ("let new = old.plus(padding).get() | bit;", "let new = old.plus(padding).get();"),
            ('step!("switch: write_pos moved");', "self.word(WRITE_POS).fetch_or(bit, Ordering::AcqRel);"),
        ],
    ),
    (
        "an empty packet without a look whether the last one is delivered",
        "frontend/reserve.rs",
        [("if self.cold(i, DELIVERED).load(Ordering::Acquire) != g.complete(before) {", "if false {")],
    ),
    (
        "an empty packet without a look whether there is room",
        "frontend/reserve.rs",
        [("if lost == told || self.may_open(old).is_err() {", "if lost == told {")],
    ),
    (
        "CONSUMED_EARLY: `consumed` before the exchange",
        "frontend/read.rs",
        [("let fresh = SubBufferId::taken(spare).word();",
          "self.set_consumed(at.plus(g.subbuf_size()));\n            let fresh = SubBufferId::taken(spare).word();")],
    ),
    (
        "NOLAPCHECK: exchange without a look at the lap",
        "frontend/read.rs",
        [("if !id.is_noref() || id.is_taken() || id.lap() != g.lap(at) {", "if !id.is_noref() {")],
    ),
    (
        "NOLAP: laps that are told modulo 2",
        "frontend/position.rs",
        [("(p.get() >> (self.size_shift + self.count_shift)) as u32", "(p.get() >> (self.size_shift + self.count_shift)) as u32 & 1")],
    ),
    (
        "SAMETAG: what the reader leaves carries the lap",
        "frontend/read.rs",
        [("let fresh = SubBufferId::taken(spare).word();", "let fresh = SubBufferId::delivered(g.lap(at), spare).word();")],
    ),
    (
        "get does not ask whether the packet is delivered",
        "frontend/read.rs",
        [("            if !self.is_delivered(at) {\n                if self.mode", "            if false {\n                if self.mode")],
    ),
    (
        "a reader that comes back does not pass what a dead one took",
        "frontend/read.rs",
        [("if id.is_taken() && id.is_noref() {", "if false {")],
    ),
    (
        "the oldest is counted from the end, not from the last byte",
        "frontend/read.rs",
        [("return g.start(end.minus(1)).plus", "return g.start(end).plus")],
    ),
    (
        # (One lap's bytes would do as well as two: no add comes back to "complete" from there.)
        "given up by half a lap's bytes",
        "frontend/read.rs",
        [("(2 * g.subbuf_size()) << RECORD_BITS", "(g.subbuf_size() / 2) << RECORD_BITS")],
    ),
    (
        "what is given up is not added to",
        "frontend/read.rs",
        [("found.wrapping_add(more),", "found.wrapping_add(more - more),")],
    ),
    (
        "the end does not wait for who is about to count a loss",
        "frontend/loss.rs",
        [("self.word(DECIDING).load(Ordering::Acquire) == 0", "self.word(DECIDING).load(Ordering::Acquire) < 1000")],
    ),
    (
        "a deliverer that never claims takes its records with it",
        "frontend/loss.rs",
        [("bytes >= g.subbuf_size())", "bytes > g.subbuf_size())")],
    ),
    (
        "a packet overwritten is still kept",
        "frontend/loss.rs",
        [("if id.is_noref() && !id.is_taken() && is_delivered {", "if !id.is_taken() && is_delivered {")],
    ),
    (
        "a packet in delivery is kept",
        "frontend/loss.rs",
        [("if id.is_noref() && !id.is_taken() && is_delivered {", "if id.is_noref() && !id.is_taken() {")],
    ),
    (
        "who delivers is left out of what is given up",
        "frontend/loss.rs",
        [("load(Ordering::Relaxed) & !1;", "load(Ordering::Relaxed);")],
    ),
    (
        "overwrite: a writer waits for who stands in its way",
        "frontend/reserve.rs",
        [("            let delivered = self.cold(g.index(begin), DELIVERED).load(Ordering::Acquire);\n",
          "            let mut delivered = u64::MAX;\n"
          "            while delivered != g.before(begin) && !self.is_finalised() {\n"
          "                delivered = self.cold(g.index(begin), DELIVERED).load(Ordering::Acquire);\n"
          "            }\n")],
    ),
    (
        "given times: a packet ends when its closer says",
        "frontend/reserve.rs",
        [("if let (Timestamps::Clock, Some(end)) = (self.timestamps, end) {", "if let Some(end) = end {")],
    ),
    (
        "given times: one that goes back is not raised",
        "frontend/reserve.rs",
        [("layout.now().max(self.word(LAST_TIMESTAMP).load(Ordering::Relaxed))", "layout.now()")],
    ),
    (
        "what is given up counts as recorded",
        "frontend/reserve.rs",
        [("        self.records = 0;", "        self.records |= 0;")],
    ),
    (
        "GAP_KEPT: a snapshot keeps what lies before a refused lap",
        "frontend/snapshot.rs",
        [("let begins_again = gathering.gap && gathering.gathered > 0;", "let begins_again = false;"),
         ("gathering.gathered = if gathering.gap { 1 } else { gathering.gathered + 1 };", "gathering.gathered += 1;")],
    ),
    (
        "NEWEST_BEGUN: a snapshot asks for a sub-buffer begun since the switch",
        "frontend/snapshot.rs",
        [("let end = g.start(now);", "let end = g.start(now.plus(g.subbuf_size() - 1));")],
    ),
    (
        "BACK_STORE: a snapshot puts back by a plain store",
        "frontend/snapshot.rs",
        [("let back = self.cold(g.index(lent.at), TABLE).compare_exchange(\n            left,\n            found,\n"
          "            Ordering::Release,\n            Ordering::Relaxed,\n        );",
          "self.cold(g.index(lent.at), TABLE).store(found, Ordering::Release);\n"
          "        let back = Ok::<u64, u64>(left);")],
    ),
    (
        "a snapshot has its spare memory back whether a writer has passed or not",
        "frontend/snapshot.rs",
        [("if back.is_ok() { lent.spare } else { memory }", "if back.is_ok() { lent.spare } else { lent.spare }")],
    ),
    (
        "a snapshot gives back without the lap",
        "frontend/snapshot.rs",
        [("let found = SubBufferId::delivered(g.lap(lent.at), memory).word();",
          "let found = SubBufferId::delivered(0, memory).word();")],
    ),
    (
        "a snapshot takes what it copies",
        "frontend/snapshot.rs",
        [('step!("snapshot: lent");', "self.set_consumed(at.plus(self.geometry.subbuf_size()));")],
    ),
    (
        "a snapshot ends at the first refused lap",
        "frontend/snapshot.rs",
        [("            gathering.gap = true;\n        }\n        None", "            gathering.gap = true;\n            break;\n        }\n        None")],
    ),
    (
        "a snapshot begins one sub-buffer late",
        "frontend/snapshot.rs",
        [("let (oldest, wanted) = (self.oldest(now),", "let (oldest, wanted) = (self.oldest(now).plus(g.subbuf_size()),")],
    ),
    (
        "`delivered` does not wrap with positions",
        "frontend/position.rs",
        [("(self.before(p) + self.subbuf_size()) & self.bytes_mask()", "(self.before(p) + self.subbuf_size()) & (self.bytes_mask() | u64::MAX)")],
    ),
    (
        "positions are compared in 64 bits",
        "frontend/position.rs",
        [("((self.0.wrapping_sub(other.0) << 1) as i64) >> 1", "self.0.wrapping_sub(other.0) as i64")],
    ),
    (
        "the loss is counted when the end does not wait any more (the seam's way, copied)",
        "frontend/sim/actors/writer.rs",
        [("let Some(_deciding) = world.ring.deciding()", "let Some(_) = world.ring.deciding()")],
    ),
    (
        "a waking is not counted",
        "wake.rs",
        [("state.compare_exchange(state, state.wrapping_add(1), order, order)", "state.compare_exchange(state, state & !ASLEEP, order, order)")],
    ),
    (
        "a sleeper does not say so before it looks",
        "wake.rs",
        [("let ticket = self.state.fetch_or(ASLEEP, Ordering::Relaxed) | ASLEEP;",
          "let ticket = self.state.load(Ordering::Relaxed) | ASLEEP;")],
    ),
]


def run(sim):
    """Runs one kind of test in the copy: {test: (after how many seeds, claim)} of those that fail."""
    env = dict(os.environ, RUST_BACKTRACE="0", RBPIPE_SEEDS=SEEDS)
    env["CARGO_TARGET_DIR"] = str(COPY.parent)
    command = ["timeout", "400", "cargo", "test", "-q", "-j1", "--locked", "-p", "rbpipe-core", "--lib"]
    if sim:
        env["RUSTFLAGS"] = "--cfg sim"
        command += ["--release", "--", "frontend::sim", "--nocapture", "--test-threads=1"]
    else:
        command += ["--", "frontend::oracle", "--nocapture", "--test-threads=1"]
    done = subprocess.run(command, cwd=COPY, env=env, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if "could not compile" in said:
        sys.exit(said)
    if done.returncode == 0:
        return {}
    if done.returncode == 124:
        return {"?": (0, "does not end")}
    claims = {}
    for name, claim in re.findall(r"thread '(?:\w+::)*(\w+)' \(\d+\) panicked at .*\n(.+)", said):
        claims.setdefault(name, claim.removeprefix("assertion `left == right` failed: "))
    ends = re.findall(r"\(the (\d+)th\).*?frontend::sim::(\w+) ", said, re.S)
    seeds = {name: int(n) + 1 for n, name in ends}
    return {name: (seeds.get(name, 0), claim) for name, claim in claims.items()}


def main():
    if COPY.exists():
        shutil.rmtree(COPY)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.splitlines():
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, COPY / name)
    wanted = sys.argv[1:]
    missed = []
    print("| bug | tests of the simulator | seeds | claim | oracle |\n|---|---|---|---|---|")
    for name, file, changes in BUGS:
        if wanted and not any(word in name for word in wanted):
            continue
        path = COPY / "core/src" / file
        right = path.read_text()
        wrong = right
        for there, instead in changes:
            if wrong.count(there) != 1:
                sys.exit(f"{name}: found {wrong.count(there)} times in {file}:\n{there}")
            wrong = wrong.replace(there, instead)
        path.write_text(wrong)
        by_sim, by_oracle = run(True), run(False)
        path.write_text(right)
        if not by_sim and not by_oracle:
            missed.append(name)
        tests = ", ".join(sorted(test.split("_")[0] for test in by_sim))
        seeds, claim = min(by_sim.values(), default=("", "NOT CAUGHT" if not by_oracle else ""))
        print(f"| {name} | {tests} | {seeds} | {claim[:90]} | {'yes' if by_oracle else ''} |", flush=True)
    if missed:
        sys.exit("not caught: " + "; ".join(missed))


if __name__ == "__main__":
    main()
