//! The node's end of the control socket: JSON lines over a Unix socket that only its owner can open.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Request, client, timed::Timed};
use crate::log_limit::LogLimit;

/// Longest request, in bytes.
const LONGEST_REQUEST: usize = 64 << 10;
/// How long a client may take to send a request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at a time. One more is told so and sent away.
const MAX_CLIENTS: usize = 16;

/// How long a client that gets one line after the other may take none of them.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);

/// Writes to a client for as long as it likes.
pub type Body = dyn FnOnce(&Client<'_>) -> io::Result<()>;

/// Answers a request.
pub type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// What a client gets.
pub enum Answer {
    /// An object that has `"ok"`; [`refusal`] makes one that says no.
    Line(Value),
    /// Such an object, and then what is written to the client, until that returns: then the conversation ends.
    Stream(Value, Box<Body>),
}

impl From<Value> for Answer {
    fn from(line: Value) -> Self {
        Self::Line(line)
    }
}

/// Somebody who gets one line after the other.
pub struct Client<'a>(&'a UnixStream);

impl Client<'_> {
    /// Sends whole lines. Waits while the client takes none, up to a minute.
    ///
    /// # Errors
    /// When the client is gone, or has taken too long.
    pub fn send(&self, lines: &[u8]) -> io::Result<()> {
        Timed::new(self.0, STREAM_PATIENCE).write_all(lines)
    }

    /// Waits for so long; false when the client is gone. What it says meanwhile is ignored.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn stays(&self, time: Duration) -> io::Result<bool> {
        match Timed::new(self.0, time).read(&mut [0; 1024]) {
            Ok(0) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The control socket of this process. Stops, and removes the socket, when dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode of the socket: by the time it is removed another process may have put its own there.
    identity: (u64, u64),
    /// The listening socket once more, to wake the thread that accepts.
    waker: UnixStream,
    clients: Arc<Clients>,
    thread: Option<JoinHandle<()>>,
}

/// Serves the control socket at `path` in a thread of its own, with one more for each client.
///
/// Its directory is made if it is missing. A socket that a dead process left is replaced.
///
/// # Errors
/// When somebody answers at `path` already, when something is there that is not a socket, or when the socket cannot
/// be made.
pub fn serve(path: &Path, handler: Arc<Handler>) -> Result<Server> {
    let listener = listen(path).with_context(|| format!("control.socket {}", path.display()))?;
    let metadata = fs::metadata(path)?;
    let waker = UnixStream::from(OwnedFd::from(listener.try_clone()?));
    let clients = Arc::new(Clients::default());
    let shared = Arc::clone(&clients);
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(move || accept(&listener, &shared, &*handler))?;
    Ok(Server {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
        waker,
        clients,
        thread: Some(thread),
    })
}

/// The answer that says no.
pub fn refusal(reason: &str) -> Value {
    json!({ "ok": false, "error": reason })
}

impl Drop for Server {
    fn drop(&mut self) {
        let ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
        // First, so that the thread that accepts knows why it is woken.
        self.clients.close();
        // On a listening socket this makes `accept` return EINVAL, at once and from now on (unix_accept in
        // net/unix/af_unix.c).
        let _ = self.waker.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!("something else is there; remove it or name another path")
        }
        Ok(_) => match client::connect(path, PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error.into()),
            _ => bail!("another siplb uses it; stop that one, or name another path"),
        },
        Err(_) => {}
    }

    // Bound in a directory that nobody else can enter, and only moved out once its own permissions are right. That
    // replaces a stale socket in one step, too.
    let private = directory.join(format!(".{}", std::process::id()));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let bound = private.join("s");
    let listener = UnixListener::bind(&bound).and_then(|listener| {
        fs::set_permissions(&bound, Permissions::from_mode(0o600))?;
        fs::rename(&bound, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    Ok(listener?)
}

fn accept(listener: &UnixListener, clients: &Clients, handler: &Handler) {
    let trouble = LogLimit::new();
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if clients.is_closed() {
                return;
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: the next try would fail as well, and at once.
                    trouble.log(log::Level::Warn, format_args!("control socket: {error}"));
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            match clients.enter(&stream) {
                Some(place) => {
                    let client = move || {
                        if let Err(error) = converse(&stream, handler) {
                            log::debug!("control socket: {error}");
                        }
                        clients.leave(place);
                    };
                    // If there is no thread to be had the stream is closed, which the client will notice.
                    if thread::Builder::new().spawn_scoped(scope, client).is_err() {
                        clients.leave(place);
                    }
                }
                // A new client's send buffer has room for a line, so this does not wait.
                None => drop(answer(&stream, &refusal("too many clients; try again"))),
            }
        }
    });
}

/// Answers a client's requests until it is gone, silent for too long, or makes no sense.
fn converse(stream: &UnixStream, handler: &Handler) -> io::Result<()> {
    let mut pending = Vec::new();
    loop {
        let line = Timed::new(stream, PATIENCE).read_line(&mut pending, LONGEST_REQUEST);
        let request = match line {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => serde_json::from_slice::<Request>(&line),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let reason = format!("the request is longer than {LONGEST_REQUEST} bytes");
                return answer(stream, &refusal(&reason));
            }
            Err(error) => return Err(error),
        };
        match request.map(|request| handler(&request)) {
            Ok(Answer::Line(line)) => answer(stream, &line)?,
            Ok(Answer::Stream(first, body)) => {
                answer(stream, &first)?;
                return body(&Client(stream));
            }
            Err(error) => answer(stream, &refusal(&format!("not a request: {error}")))?,
        }
    }
}

fn answer(stream: &UnixStream, answer: &Value) -> io::Result<()> {
    Timed::new(stream, PATIENCE).write_all(format!("{answer}\n").as_bytes())
}

/// Those that are connected, so that they can be counted and cut off.
#[derive(Debug, Default)]
struct Clients(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    streams: [Option<UnixStream>; MAX_CLIENTS],
    closed: bool,
}

impl Clients {
    /// Takes a place; `None` when there is none.
    fn enter(&self, stream: &UnixStream) -> Option<usize> {
        let mut places = self.lock();
        let free = places.streams.iter().position(Option::is_none)?;
        if places.closed {
            return None;
        }
        places.streams[free] = Some(stream.try_clone().ok()?);
        Some(free)
    }

    fn leave(&self, place: usize) {
        self.lock().streams[place] = None;
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Cuts everybody off, now and from now on.
    fn close(&self) {
        let mut places = self.lock();
        places.closed = true;
        for stream in places.streams.iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Places> {
        // Nothing here panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::control::client::{CallError, call};

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("siplb-control-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn socket(&self) -> PathBuf {
            self.0.join("control.sock")
        }

        fn serve(&self) -> Server {
            serve(&self.socket(), Arc::new(handle)).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn handle(request: &Request) -> Answer {
        match request.command.as_str() {
            "echo" => json!({ "ok": true, "arguments": request.arguments }).into(),
            "big" => json!({ "ok": true, "text": "x".repeat(4 << 20) }).into(),
            "count" => Answer::Stream(
                json!({ "ok": true }),
                Box::new(|client| {
                    for number in 0..3 {
                        client.send(format!("{number}\n").as_bytes())?;
                    }
                    while client.stays(Duration::from_millis(1))? {}
                    Ok(())
                }),
            ),
            other => refusal(&format!("no command {other:?}")).into(),
        }
    }

    /// Sends bytes as they are and reads one line.
    fn send(path: &Path, bytes: &[u8]) -> Value {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(bytes).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn requests_are_answered() {
        let dir = Dir::new("answer");
        let _server = dir.serve();
        let mut request = Request::new("echo");
        request.arguments.insert("pool".into(), json!("switches"));
        assert_eq!(
            call(&dir.socket(), &request).unwrap(),
            json!({ "ok": true, "arguments": { "pool": "switches" } })
        );
        assert_eq!(
            call(&dir.socket(), &Request::new("nonsense"))
                .unwrap_err()
                .to_string(),
            "no command \"nonsense\""
        );
        let big = call(&dir.socket(), &Request::new("big")).unwrap();
        assert_eq!(big["text"].as_str().unwrap().len(), 4 << 20);
    }

    #[test]
    fn a_stream_goes_on_until_the_client_leaves() {
        let dir = Dir::new("stream");
        let server = dir.serve();
        let mut stream = UnixStream::connect(dir.socket()).unwrap();
        stream.write_all(b"{\"command\":\"count\"}\n").unwrap();
        let lines = BufReader::new(&stream).lines().take(4);
        let lines = lines.map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(lines, ["{\"ok\":true}", "0", "1", "2"]);
        stream.write_all(b"{\"command\":\"echo\"}\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The node hangs up, and has not answered anything else.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
        // One that does not leave is cut off when the node ends.
        let mut stays = UnixStream::connect(dir.socket()).unwrap();
        stays.write_all(b"{\"command\":\"count\"}\n").unwrap();
        let first = BufReader::new(&stays).lines().next().unwrap().unwrap();
        assert_eq!(first, "{\"ok\":true}");
        drop(server);
    }

    #[test]
    fn only_the_owner_can_open_it() {
        let dir = Dir::new("mode");
        let _server = dir.serve();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&dir.socket()), 0o600);
        assert_eq!(mode(&dir.0), 0o755);
        let names = fs::read_dir(&dir.0).unwrap().count();
        assert_eq!(names, 1, "something was left beside the socket");
    }

    #[test]
    fn garbage_is_refused_and_the_next_request_answered() {
        let dir = Dir::new("garbage");
        let _server = dir.serve();
        for garbage in [
            &b"\n"[..],
            b"garbage\n",
            b"[]\n",
            b"{\"command\":1}\n",
            b"\xff\xfe\n",
            b"{}\n",
        ] {
            let mut stream = UnixStream::connect(dir.socket()).unwrap();
            stream.write_all(garbage).unwrap();
            stream.write_all(b"{\"command\":\"echo\"}\n").unwrap();
            let mut lines = BufReader::new(stream).lines();
            let refused: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(refused["ok"], false, "{}", garbage.escape_ascii());
            assert!(
                refused["error"]
                    .as_str()
                    .unwrap()
                    .starts_with("not a request: ")
            );
            let answered: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(answered["ok"], true);
        }
    }

    #[test]
    fn a_huge_line_is_refused_unread() {
        let dir = Dir::new("huge");
        let _server = dir.serve();
        let longest = format!(
            "{{\"command\":\"echo\",\"x\":\"{}\"}}",
            "x".repeat(LONGEST_REQUEST - 25)
        );
        assert_eq!(longest.len(), LONGEST_REQUEST);
        assert_eq!(
            send(&dir.socket(), format!("{longest}\n").as_bytes())["ok"],
            true
        );
        let with_a_blank = format!("{longest} \n");
        let without_an_end = vec![b'x'; LONGEST_REQUEST + 4096];
        for line in [with_a_blank.as_bytes(), &without_an_end] {
            assert_eq!(
                send(&dir.socket(), line)["error"],
                "the request is longer than 65536 bytes"
            );
        }
    }

    #[test]
    fn silent_clients_keep_nobody_else_out_for_long() {
        let dir = Dir::new("silent");
        let server = dir.serve();
        let mut silent = Vec::new();
        // Each says something, so that it is known to have its place.
        for _ in 0..MAX_CLIENTS {
            let mut stream = UnixStream::connect(dir.socket()).unwrap();
            stream
                .write_all(b"{\"command\":\"echo\"}\n{\"comm")
                .unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            silent.push(stream);
        }
        assert!(
            matches!(call(&dir.socket(), &Request::new("echo")), Err(CallError::Refused(reason)) if reason == "too many clients; try again")
        );
        // The server hangs up on all of them by itself.
        for stream in &mut silent {
            let mut rest = Vec::new();
            stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
            stream.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
        }
        drop(silent);
        drop(server);
    }

    #[test]
    fn many_clients_at_a_time_all_get_their_own_answer() {
        let dir = Dir::new("many");
        let _server = dir.serve();
        thread::scope(|scope| {
            for client in 0..MAX_CLIENTS {
                let path = dir.socket();
                scope.spawn(move || {
                    let mut stream = BufReader::new(UnixStream::connect(path).unwrap());
                    for round in 0..200 {
                        let request =
                            format!("{{\"command\":\"echo\",\"n\":{}}}\n", client * 1000 + round);
                        stream.get_mut().write_all(request.as_bytes()).unwrap();
                        let mut line = String::new();
                        stream.read_line(&mut line).unwrap();
                        let answer: Value = serde_json::from_str(&line).unwrap();
                        assert_eq!(answer["arguments"]["n"], client * 1000 + round);
                    }
                });
            }
        });
    }

    #[test]
    fn stopping_cuts_clients_off_and_removes_the_socket() {
        let dir = Dir::new("stop");
        let server = dir.serve();
        let mut client = UnixStream::connect(dir.socket()).unwrap();
        client.write_all(b"{\"command\":\"echo\"}\n").unwrap();
        BufReader::new(&client)
            .read_line(&mut String::new())
            .unwrap();
        drop(server);
        assert!(!dir.socket().exists());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        let error = call(&dir.socket(), &Request::new("echo")).unwrap_err();
        assert!(matches!(error, CallError::NotRunning(_)), "{error}");
    }

    #[test]
    fn a_socket_is_replaced_only_when_nobody_answers() {
        let dir = Dir::new("stale");
        let first = dir.serve();
        let error = serve(&dir.socket(), Arc::new(handle)).unwrap_err();
        assert!(
            format!("{error:#}")
                .ends_with("another siplb uses it; stop that one, or name another path")
        );
        drop(first);

        // A process that died leaves its socket.
        drop(UnixListener::bind(dir.socket()).unwrap());
        let second = dir.serve();
        assert_eq!(
            call(&dir.socket(), &Request::new("echo")).unwrap()["ok"],
            true
        );

        // Somebody else's socket is not removed.
        fs::remove_file(dir.socket()).unwrap();
        let third = dir.serve();
        drop(second);
        assert_eq!(
            call(&dir.socket(), &Request::new("echo")).unwrap()["ok"],
            true
        );
        drop(third);

        fs::write(dir.socket(), "not a socket").unwrap();
        let error = serve(&dir.socket(), Arc::new(handle)).unwrap_err();
        assert!(
            format!("{error:#}")
                .ends_with("something else is there; remove it or name another path")
        );
        assert_eq!(fs::read(dir.socket()).unwrap(), b"not a socket");
    }

    #[test]
    fn what_is_no_siplb_is_recognised() {
        let dir = Dir::new("other");
        fs::create_dir_all(&dir.0).unwrap();
        for reply in [&b"hello\n"[..], b"{}\n", b"", b"{\"ok\":true}"] {
            let _ = fs::remove_file(dir.socket());
            let listener = UnixListener::bind(dir.socket()).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = listener.accept().unwrap();
                    BufReader::new(&stream)
                        .read_line(&mut String::new())
                        .unwrap();
                    stream.write_all(reply).unwrap();
                });
                let error = call(&dir.socket(), &Request::new("status")).unwrap_err();
                assert!(matches!(error, CallError::Garbage(_)), "{error}");
            });
        }
    }
}
