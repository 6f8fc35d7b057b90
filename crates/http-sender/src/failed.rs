//! Why there is no answer: our code for the outcome, and a sentence for the operator's log.

use std::error::Error;
use std::io;

use domain::attempt::Failure;
use h2::Reason;

use crate::limits::DETAIL_BYTES_MAX;

/// An exchange without an answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) detail: String,
}

impl Failed {
    pub(crate) fn new(failure: Failure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into() }
    }
}

impl From<hyper::Error> for Failed {
    fn from(error: hyper::Error) -> Self {
        Self { failure: classify(&error), detail: with_sources(&error) }
    }
}

/// What an error of the HTTP machinery says about the receiver.
fn classify(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_user() {
        return Failure::Protocol;
    }
    match source_of::<h2::Error>(error) {
        Some(error) if breaks_http2(error) => Failure::Protocol,
        _ => Failure::Reset,
    }
}

/// Whether HTTP/2 was broken: by the receiver, as our side found, or by us, as the receiver says.
///
/// A reset without an error follows a complete answer (RFC 9113, section 8.1); here, one beyond
/// our limits.
fn breaks_http2(error: &h2::Error) -> bool {
    error.is_library()
        || (error.is_reset() && error.reason() == Some(Reason::NO_ERROR))
        || matches!(
            error.reason(),
            Some(
                Reason::PROTOCOL_ERROR
                    | Reason::FRAME_SIZE_ERROR
                    | Reason::COMPRESSION_ERROR
                    | Reason::FLOW_CONTROL_ERROR
                    | Reason::HTTP_1_1_REQUIRED
            )
        )
}

/// Whether a request that failed so on an HTTP/2 connection was not processed, or fell with the
/// whole connection rather than by the receiver's decision about this request.
pub(crate) fn fell_with_connection(error: &hyper::Error) -> bool {
    error.is_canceled()
        || error.is_closed()
        || source_of::<io::Error>(error).is_some()
        || source_of::<h2::Error>(error).is_some_and(|error| {
            let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
            error.is_io() || error.is_go_away() || refused
        })
}

fn source_of<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    error.source()?.downcast_ref()
}

/// An error in words: bounded, because a receiver may have chosen some of them (the names in its
/// certificate, the text of a GOAWAY), and of one line.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    let mut text = text.replace(char::is_control, "\u{fffd}");
    let end = text.floor_char_boundary(DETAIL_BYTES_MAX);
    text.truncate(end);
    text
}
