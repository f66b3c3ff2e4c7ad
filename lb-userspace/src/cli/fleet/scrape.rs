//! Asks nodes for their metrics over HTTP, all at once, each for so long and so much.

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::address::Address;

/// Longest answer, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;
/// Longest header of an answer, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// What each node answers, or why it does not, in the order of the addresses.
///
/// # Errors
/// When there are no descriptors or threads to be had.
pub(super) fn all(
    addresses: &[Address],
    patience: Duration,
) -> anyhow::Result<Vec<Result<String, String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting to ask")?;
    let answers = runtime.block_on(async {
        let asked = addresses.iter().map(|address| {
            let address = address.clone();
            tokio::spawn(async move {
                match timeout(patience, one(&address)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(format!("no answer within {} s", patience.as_secs_f64())),
                }
            })
        });
        let mut answers = Vec::new();
        for asked in asked.collect::<Vec<_>>() {
            answers.push(asked.await.unwrap_or_else(|error| Err(error.to_string())));
        }
        answers
    });
    // A name may still be looked up.
    runtime.shutdown_background();
    Ok(answers)
}

async fn one(address: &Address) -> Result<String, String> {
    let stream = TcpStream::connect(&address.host_and_port)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "nobody listens there; is siplb running, and with this metrics.listen?".to_owned()
            }
            _ => error.to_string(),
        })?;
    let broken = |error: hyper::Error| format!("not an answer: {error}");
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(&address.path)
        .header(header::HOST, &address.host_and_port)
        .header(header::ACCEPT, "text/plain; version=0.0.4")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("answers {status}; is this siplb's metrics.listen?"));
    }
    let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect();
    let body = body
        .await
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => format!("the answer is longer than {LONGEST_ANSWER} bytes"),
            None => format!("the answer broke off: {error}"),
        })?;
    connection.abort();
    String::from_utf8(body.to_bytes().to_vec()).map_err(|_| "the answer is not text".to_owned())
}
