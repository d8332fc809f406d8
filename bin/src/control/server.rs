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
/// How long those hold it up who have connected and asked nothing yet.
const FIRST: Duration = Duration::from_millis(100);

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
    /// As many more as there are clients whose first request is not read yet; the one who
    /// accepts them counts until nobody can come any more.
    new: Arc<()>,
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
    let shared =
        Arc::new(Shared { pipeline, asked, exit: told, open: Arc::default(), new: Arc::default() });
    tokio::spawn(accept(listener, Arc::clone(&shared), Arc::clone(&shared.new)));
    Ok(Server { claim, shared, exit })
}

impl Server {
    /// The pipeline has ended like this: tells those who wait for it, but not for ever.
    pub fn end(self, code: u8) {
        self.claim.give_up();
        self.exit.send_replace(Some(code));
        let begin = Instant::now();
        let held = |by: &Arc<()>, at_most| Arc::strong_count(by) > 1 && begin.elapsed() < at_most;
        while held(&self.shared.open, LAST) || held(&self.shared.new, FIRST) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Lets clients in, and at the end those who connected while there was something to connect to.
async fn accept(listener: UnixListener, shared: Arc<Shared>, new: Arc<()>) {
    let room = Arc::new(Semaphore::new(CLIENTS));
    let mut exit = shared.exit.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = exit.wait_for(Option::is_some) => break,
        };
        match accepted {
            Ok((stream, _)) => welcome(stream, &shared, &room),
            // No file descriptor left, most likely.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    // The socket's name is gone. Who waits in its queue is not told to tokio for certain yet.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, _)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            if let Ok(stream) = stream {
                welcome(stream, &shared, &room);
            }
        }
    }
    drop(new);
}

/// Begins with a client, or refuses it.
fn welcome(mut stream: UnixStream, shared: &Arc<Shared>, room: &Arc<Semaphore>) {
    // A stranger gets here only if somebody opened the directory to him.
    let uid = stream.peer_cred().map(|peer| peer.uid());
    let refused = if !uid.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw()) {
        "this pipeline is another user's"
    } else if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        let (shared, new) = (Arc::clone(shared), Arc::clone(&shared.new));
        tokio::spawn(async move {
            client(&mut stream, &shared, new).await;
            drop(permit);
        });
        return;
    } else {
        "too many clients at once; try again"
    };
    // Into the socket's buffer, or not at all.
    let _ = stream.try_write(&line(&Reply::error(refused)));
}

/// One client, until it has no more to ask.
async fn client(stream: &mut UnixStream, shared: &Shared, new: Arc<()>) {
    let mut new = Some(new);
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
                    drop(new.take());
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::net::UnixStream;

    use rbpipe_core::backend::Context;

    use super::super::claim::claim_in;
    use super::super::place::Place;
    use super::super::protocol::VERSION;
    use super::*;
    use crate::snapshots::Recorders;

    #[test]
    fn who_came_before_the_end_is_answered() {
        let dir = tempfile::tempdir().expect("made");
        let path = dir.path().join("control");
        std::fs::DirBuilder::new().mode(0o700).create(&path).expect("made");
        let claim =
            Arc::new(claim_in(Place::open(path.clone()).expect("ours"), "p").expect("free"));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("built");
        let pipeline = Outside {
            name: "p".into(),
            begin: Instant::now(),
            channels: Vec::new(),
            sources: Vec::new(),
            recorders: Recorders::new(Arc::new(Context::new("p")), Vec::new()),
        };
        let entered = runtime.enter();
        let server = serve(claim, pipeline, Asked::default()).expect("it listens");
        // Nobody accepts for a while, as on a machine that is busy.
        let (busy, is_busy) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            busy.send(()).expect("waited for");
            std::thread::sleep(Duration::from_millis(40));
        });
        is_busy.recv().expect("sent");
        let socket = Place::open(path).expect("ours").address("p.sock");
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(UnixStream::connect(&socket).expect("it listens"));
        }
        for client in &mut clients[..2] {
            let request = Request { version: VERSION, command: Command::Stop };
            client.write_all(&line(&request)).expect("written");
        }
        // The third one says nothing, and is waited for a moment only.
        let begin = Instant::now();
        server.end(7);
        assert!(begin.elapsed() < LAST, "{:?}", begin.elapsed());
        drop(entered);
        runtime.shutdown_background();
        for (i, mut client) in clients.into_iter().enumerate() {
            let mut said = String::new();
            let _ = client.read_to_string(&mut said);
            assert_eq!(said.contains("\"exit\":7"), i < 2, "{i}: {said:?}");
        }
    }
}
