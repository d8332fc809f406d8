//! Sockets that listen: opened before anything is recorded, closed and taken away with the
//! source. What comes in is read elsewhere (`connections.rs`, `datagrams.rs`).

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::address::Address;

/// Datagrams wait in a buffer of this size, if the system allows it.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket, and what is to be taken away with it.
pub(super) struct Socket {
    fd: OwnedFd,
    _file: Option<SocketFile>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket's name in the file system.
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not another one that has its place.
        if identity(&self.path).is_some_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Listens at a path. Only its owner may connect, from the first moment on.
pub(super) fn unix(path: &Path) -> anyhow::Result<Socket> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(m) if !m.file_type().is_socket() => {
            bail!("{shown}: exists and is no socket: it is left alone; name another path")
        }
        Ok(_) => match UnixStream::connect(path) {
            // What a program left that was killed.
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).with_context(|| format!("{shown}: cannot be replaced"))?;
            }
            Ok(_) => bail!("{shown}: another program listens there; name another path"),
            Err(e) => {
                return Err(e).with_context(|| {
                    format!("{shown}: is a socket, and whether anybody listens cannot be told")
                });
            }
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("{shown}: cannot be looked at")),
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listen = || -> io::Result<OwnedFd> {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Before it has a name: that is made with these rights.
        fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(fd)
    };
    let fd = listen().with_context(|| format!("unix:{shown}: cannot listen"))?;
    let file = identity(path).map(|id| SocketFile { path: path.to_owned(), id });
    tracing::info!("lines: listening at unix:{shown}");
    Ok(Socket { fd, _file: file })
}

/// Listens at each address that the name has.
pub(super) fn tcp(address: &Address) -> anyhow::Result<Vec<Socket>> {
    all("tcp", address, |at| {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener.into()))
    })
}

/// Receives at each address that the name has.
pub(super) fn udp(address: &Address) -> anyhow::Result<Vec<Socket>> {
    all("udp", address, |at| {
        let socket = UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            // Without that right as much as the system gives.
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        Ok((socket.local_addr()?, socket.into()))
    })
}

fn all(
    kind: &str,
    address: &Address,
    bind: impl Fn(SocketAddr) -> io::Result<(SocketAddr, OwnedFd)>,
) -> anyhow::Result<Vec<Socket>> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let found = found.with_context(|| format!("{kind}:{address}: there is no such address"))?;
    let (mut sockets, mut seen, mut failed) = (Vec::new(), Vec::new(), None);
    for at in found {
        if seen.contains(&at) {
            continue;
        }
        seen.push(at);
        match bind(at) {
            Ok((local, fd)) => {
                tracing::info!("lines: listening at {kind}:{local}");
                sockets.push(Socket { fd, _file: None });
            }
            // A name may have an IPv6 address on a machine without IPv6.
            Err(e) if e.kind() == ErrorKind::AddrNotAvailable => failed = failed.or(Some((at, e))),
            Err(e) => return Err(sentence(kind, at, e)),
        }
    }
    match failed {
        Some((at, e)) if sockets.is_empty() => Err(sentence(kind, at, e)),
        _ if sockets.is_empty() => bail!("{kind}:{address}: there is no such address"),
        _ => Ok(sockets),
    }
}

fn sentence(kind: &str, at: SocketAddr, e: io::Error) -> anyhow::Error {
    let why = match e.kind() {
        ErrorKind::AddrInUse => "another program has this port: stop it, or name another port",
        ErrorKind::AddrNotAvailable => "this machine has no such address",
        ErrorKind::PermissionDenied => "ports below 1024 need root: name another port",
        _ => "cannot listen",
    };
    anyhow::Error::new(e).context(format!("{kind}:{at}: {why}"))
}
