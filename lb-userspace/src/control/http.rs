//! `metrics.listen`: what the node tells over HTTP/1.1. It changes nothing, and no worker notices it.
//!
//! Owned here: the listener, one thread, and the limits that keep whoever connects from costing more than a little: so
//! many clients at a time, so long a request, so much time. Left to [`pages`]: which paths there are and what they say.
//! Numbers come from the statistics' shared memory and the XDP programs' maps, states from the control plane.

mod live;
mod metrics;
mod page;
pub mod pages;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
    time::timeout,
};

use self::pages::{Answer, Question};

/// Longest request line and header fields together, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// Most header fields of a request.
const MAX_HEADERS: usize = 64;

/// How many clients there may be and how long they may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// At a time. One more is told so and sent away.
    clients: usize,
    /// To send a request, from the connection's start or the answer to the one before.
    request: Duration,
    /// From its start until a connection takes no more requests.
    connection: Duration,
    /// From then on to take the last answer.
    last_answer: Duration,
}

const LIMITS: Limits = Limits {
    clients: 64,
    request: Duration::from_secs(10),
    connection: Duration::from_secs(60),
    last_answer: Duration::from_secs(5),
};

/// Answers a question: [`pages::Pages::answer`], or what a test wants.
pub type Answerer = dyn Fn(&Question) -> Answer + Send + Sync;

/// Tells over HTTP until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Takes an address, which may need privileges that are dropped before there is something to tell.
///
/// # Errors
/// When it cannot be had, with the name of the key in the configuration.
pub fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).with_context(|| {
        format!(
            "metrics.listen {listen} cannot be used; name an address of this host and a port that no other process has"
        )
    })
}

/// Answers whoever connects, in a thread of its own.
///
/// # Errors
/// When there is no thread or descriptor to be had.
pub fn serve(listener: TcpListener, answerer: Arc<Answerer>) -> Result<Server> {
    serve_with(listener, answerer, LIMITS)
}

fn serve_with(listener: TcpListener, answerer: Arc<Answerer>, limits: Limits) -> Result<Server> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of metrics.listen")?;
    let listener = {
        let _context = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("http".into())
        // Whoever is connected when it stops is cut off with the runtime.
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(&listener, &answerer, limits) => {}
                    _ = stopped => {}
                }
            });
        })?;
    Ok(Server {
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed already.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: &tokio::net::TcpListener, answerer: &Arc<Answerer>, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.clients));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: the next try would fail as well, and at once.
                log::debug!("metrics.listen: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turn_away(&stream);
            continue;
        };
        let answerer = Arc::clone(answerer);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, answerer, limits).await {
                log::debug!("metrics.listen: {error}");
            }
            drop(place);
        });
    }
}

/// A new client's send buffer has room for this, so it does not wait.
fn turn_away(stream: &TcpStream) {
    let text = "too many clients; try again\n";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

/// Answers a client's requests until it is gone, silent for too long, makes no sense, or has had its time.
async fn converse(
    stream: TcpStream,
    answerer: Arc<Answerer>,
    limits: Limits,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&*answerer, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if let Ok(ended) = timeout(limits.connection, connection.as_mut()).await {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    // Else it does not take its answer.
    timeout(limits.last_answer, connection)
        .await
        .unwrap_or(Ok(()))
}

fn respond(answerer: &Answerer, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let is_known = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut answer = match () {
        () if !is_known => Answer::refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD: nothing can be changed here",
        ),
        () if !request.body().is_end_stream() => {
            Answer::refusal(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here")
        }
        () => answerer(&Question::new(request.uri(), request.headers())),
    };
    let mut response = Response::new(Full::new(Bytes::from(std::mem::take(&mut answer.bytes))));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, answer.content_type);
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CONTENT_SECURITY_POLICY, answer.policy);
    set(header::REFERRER_POLICY, "no-referrer");
    if !is_known {
        set(header::ALLOW, "GET, HEAD");
    }
    if !request.body().is_end_stream() {
        // What it sends is not read.
        set(header::CONNECTION, "close");
    }
    response
}
