//! The running pipeline's side: a task for each client, and none of them can hold up another,
//! the pipeline, or its end.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbpipe_backends::snapshot::By;
use rbpipe_core::drain::{Answer, Ask, Control, Done, Refused, Reply as To};
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::claim::Claim;
use super::protocol::{Command, Copied, LONGEST, Live, LiveChannel, Reply, Request, line};
use crate::report;
use crate::walk::{Asked, Outside};

/// Clients at once.
const CLIENTS: usize = 32;
/// How long a client may take for a whole request, and to take a reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an output may take for what it is asked for.
const AT_MOST: Duration = Duration::from_secs(30);
/// How long replies hold up the end of the program.
const LAST: Duration = Duration::from_secs(1);

/// The open control socket of a running pipeline.
pub struct Server {
    claim: Arc<Claim>,
    shared: Arc<Shared>,
    exit: watch::Sender<Option<u8>>,
}

struct Shared {
    pipeline: Outside,
    asked: Asked,
    exit: watch::Receiver<Option<u8>>,
    /// As many more as there are requests that have no reply yet.
    open: Arc<()>,
}

/// Begins to answer.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(claim: Arc<Claim>, pipeline: Outside, asked: Asked) -> std::io::Result<Server> {
    let listener = claim.listener()?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (exit, told) = watch::channel(None);
    let shared = Arc::new(Shared { pipeline, asked, exit: told, open: Arc::default() });
    tokio::spawn(accept(listener, Arc::clone(&shared)));
    Ok(Server { claim, shared, exit })
}

impl Server {
    /// The pipeline has ended like this: tells those who wait for it, but not for ever.
    pub fn end(self, code: u8) {
        self.claim.give_up();
        self.exit.send_replace(Some(code));
        let deadline = Instant::now() + LAST;
        while Arc::strong_count(&self.shared.open) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // No file descriptor left, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // A stranger gets here only if somebody opened the directory to him.
        let uid = stream.peer_cred().map(|peer| peer.uid());
        let refused = if !uid.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw()) {
            "this pipeline is another user's"
        } else if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                client(&mut stream, &shared).await;
                drop(permit);
            });
            continue;
        } else {
            "too many clients at once; try again"
        };
        // Into the socket's buffer, or not at all.
        let _ = stream.try_write(&line(&Reply::error(refused)));
    }
}

/// One client, until it has no more to ask.
async fn client(stream: &mut UnixStream, shared: &Shared) {
    let mut bytes = Vec::new();
    loop {
        let (reply, last, open) = match timeout(PATIENCE, next_line(stream, &mut bytes)).await {
            Err(_) if bytes.is_empty() => return,
            Err(_) => (Reply::error("no whole request for too long"), true, None),
            Ok(Err(why)) => (Reply::error(why), true, None),
            Ok(Ok(None)) => return,
            Ok(Ok(Some(request))) => match Request::read(&request) {
                Err(why) => (Reply::error(why), true, None),
                Ok(request) => {
                    let open = Arc::clone(&shared.open);
                    (shared.answer(request.command).await, false, Some(open))
                }
            },
        };
        let sent = timeout(PATIENCE, stream.write_all(&line(&reply))).await;
        drop(open);
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// The next line, without its end; `None`: there is none.
async fn next_line(
    stream: &mut UnixStream,
    bytes: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, &'static str> {
    let mut seen = 0;
    loop {
        if let Some(end) = bytes[seen..].iter().position(|b| *b == b'\n') {
            let mut line: Vec<u8> = bytes.drain(..=seen + end).collect();
            line.pop();
            return Ok(Some(line));
        }
        if bytes.len() > LONGEST {
            return Err("a request's line is at most 64 KiB");
        }
        seen = bytes.len();
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err("the request has no end"),
            Ok(n) => bytes.extend_from_slice(&more[..n]),
        }
    }
}

impl Shared {
    async fn answer(&self, command: Command) -> Reply {
        match command {
            Command::Status => self.status(),
            Command::Flush => self.in_time(self.flush()).await,
            Command::Rotate => self.in_time(self.rotate()).await,
            Command::Snapshot { out, splice } => self.in_time(self.snapshot(out, splice)).await,
            Command::Stop => self.stop().await,
        }
    }

    async fn in_time(&self, reply: impl Future<Output = Reply>) -> Reply {
        timeout(AT_MOST, reply).await.unwrap_or_else(|_| {
            let seconds = AT_MOST.as_secs();
            Reply::error(format!("not done within {seconds} s: an output takes nothing"))
        })
    }

    fn status(&self) -> Reply {
        let p = &self.pipeline;
        let channels = p.channels.iter().map(|c| {
            let (used, of) = c.monitor.fullest();
            let (events, bytes) = report::sum(&c.monitor.streams()).underway;
            let fill = used.min(of) as f64 / of.max(1) as f64;
            LiveChannel { name: c.name.clone(), fill, events, bytes }
        });
        let running = p.sources.iter().filter(|s| s.is_running()).map(|s| s.name.clone());
        let live = Live {
            pid: std::process::id(),
            channels: channels.collect(),
            running: running.collect(),
        };
        let seconds = p.begin.elapsed().as_secs_f64();
        let report = report::of(&p.name, seconds, p.channels.iter(), p.sources.iter());
        Reply { report: Some(report), live: Some(live), ..Reply::done() }
    }

    async fn flush(&self) -> Reply {
        let errors: Vec<String> = self
            .ask_all(|| Ask::Flush)
            .await
            .into_iter()
            .filter_map(|(channel, answer)| Some(format!("channel {channel}: {}", answer.err()?)))
            .collect();
        if errors.is_empty() { Reply::done() } else { Reply::error(errors.join("; ")) }
    }

    /// Every channel, and those that share a place together.
    async fn rotate(&self) -> Reply {
        // So that what any of them recorded before is in the pieces that end.
        let _ = self.ask_all(|| Ask::Flush).await;
        let since = Instant::now();
        let mut reply = Reply::done();
        let (mut without, mut errors) = (Vec::new(), Vec::new());
        for (channel, answer) in self.ask_all(|| Ask::Rotate { since }).await {
            match answer {
                Ok(Done::Rotated(Some(piece))) if !reply.pieces.contains(&piece) => {
                    reply.pieces.push(piece);
                }
                Ok(_) => {}
                Err(Refused::NoPieces) => without.push(channel),
                Err(e) => errors.push(format!("channel {channel}: {}", chain(&e))),
            }
        }
        if without.len() == self.pipeline.channels.len() {
            errors.push("no channel's backend has pieces to rotate".into());
        }
        if !errors.is_empty() {
            reply.error = Some(errors.join("; "));
        }
        reply
    }

    /// On a thread of its own: it waits for the channels and for the disk.
    async fn snapshot(&self, out: String, splice: bool) -> Reply {
        let recorders = self.pipeline.recorders.clone();
        let by = if splice { By::Splice } else { By::Write };
        let take = move || recorders.take(Path::new(&out), by);
        match tokio::task::spawn_blocking(take).await {
            Ok(Ok(taken)) => {
                let snapshot = Copied { words: taken.to_string(), json: taken.json() };
                Reply { snapshot: Some(snapshot), ..Reply::done() }
            }
            Ok(Err(e)) => Reply::error(format!("{e:#}")),
            Err(_) => Reply::error("the snapshot failed badly (a panic)"),
        }
    }

    async fn stop(&self) -> Reply {
        self.asked.stop();
        let mut exit = self.exit.clone();
        let code = match exit.wait_for(Option::is_some).await {
            Ok(code) => *code,
            // Whoever would tell is gone.
            Err(_) => None,
        };
        Reply { exit: Some(code.unwrap_or(1)), ..Reply::done() }
    }

    /// Asks every channel at once; gives what each one says.
    async fn ask_all(&self, ask: impl Fn() -> Ask) -> Vec<(String, Answer)> {
        let channels = &self.pipeline.channels;
        let asked: Vec<_> = channels.iter().map(|c| (&c.name, put(&c.control, ask()))).collect();
        let mut all = Vec::new();
        for (name, answer) in asked {
            all.push((name.clone(), answer.await.unwrap_or(Err(Refused::Ended))));
        }
        all
    }
}

fn put(control: &Control, ask: Ask) -> oneshot::Receiver<Answer> {
    let (to, from) = oneshot::channel();
    control.ask(ask, To::new(move |answer| _ = to.send(answer)));
    from
}

/// An error with its causes.
fn chain(e: &Refused) -> String {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(e) = source {
        text.push_str(&format!(": {e}"));
        source = e.source();
    }
    text
}
