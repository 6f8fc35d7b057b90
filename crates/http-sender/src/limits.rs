//! What one exchange and the pool may use, each bound with its reason.
//!
//! The time limit of the whole attempt comes with the request; these limits lie within it.

use std::time::Duration;

/// Longest look-up of a name: two tries of a common resolver.
pub const DNS_TIME_MAX: Duration = Duration::from_secs(3);

/// Longest way to an open connection, over all addresses of a name: two retransmissions of a lost
/// first packet (RFC 6298: after 1 s and 3 s).
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest TLS handshake.
pub const TLS_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest wait for an answer's body once its head is there. The head decides; the body is only a
/// courtesy to whoever reads the record.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(2);

/// Most of an answer's body we read so that the connection can be used again; beyond it, closing
/// is cheaper.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most bytes read of a connection per request, whatever they are: twice what the largest answer
/// that is read in full takes on the wire. Ends floods that the other limits do not count, such as
/// interim answers and HTTP/2 pings, before they cost noticeable time.
pub const READ_BYTES_PER_REQUEST_MAX: usize = 256 * 1024;

/// Largest head of an answer, as the default of common servers and proxies.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most fields in the head of an answer.
pub const HEAD_FIELDS_MAX: usize = 100;

/// Most addresses of one name; a name with more is refused as a whole. An answer over TCP could
/// hold thousands, each to be judged at every new connection; the largest public services give a
/// dozen per family.
pub const ADDRESSES_MAX: usize = 64;

/// Most addresses of one name that are tried; all of them are judged.
pub const ADDRESSES_TRIED_MAX: usize = 8;

/// Most idle HTTP/1.1 connections kept per scheme, host and port. Twice what one endpoint may have
/// in flight, because several endpoints share a host.
pub const IDLE_PER_ORIGIN_MAX: usize = 64;

/// Most HTTP/2 connections kept per scheme, host and port. With as many streams on each as
/// receivers commonly permit, more than all attempts a node has in flight.
pub const SHARED_PER_ORIGIN_MAX: usize = 8;

/// Most connections kept in all, idle HTTP/1.1 ones and HTTP/2 ones: the most attempts a node has
/// in flight, so that file descriptors stay bounded by twice that.
pub const IDLE_MAX: usize = 512;

/// How long a connection may lie idle. Shorter than the idle limits of common servers (60 to 75 s),
/// so that a reused connection is seldom one the server is about to close.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a connection lives at most, so that a change of a name's address is followed.
pub const LIFE_TIME_MAX: Duration = Duration::from_mins(5);

/// How long an HTTP/2 connection that is no longer wanted may take to say goodbye. A receiver that
/// does not read would keep it for ever.
pub const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

/// How often idle connections are looked through.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Most streams on one HTTP/2 connection before another is opened (RFC 9113, section 6.5.2,
/// recommends that receivers permit at least 100).
pub const STREAMS_PER_CONNECTION_MAX: usize = 100;

/// HTTP/2 flow-control window per stream: no more of a body than we read anyway.
pub const STREAM_WINDOW_BYTES: u32 = BODY_BYTES_MAX as u32;

/// HTTP/2 flow-control window per connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Most client certificates whose settings are kept ready; one that is not kept is read anew for
/// the next connection, in about a millisecond. What each may pin is mostly sessions to resume,
/// whose tickets the receivers write: of up to 64 KiB each (RFC 8446, section 4.6.1), hence with
/// [`SESSIONS_PER_IDENTITY_MAX`] some 32 MiB in all.
pub const IDENTITIES_KEPT_MAX: usize = 64;

/// Most TLS sessions kept for resumption per client certificate: those of one receiver, which is all
/// that most certificates are shown to.
pub const SESSIONS_PER_IDENTITY_MAX: usize = 8;

/// Most OAuth 2 tokens kept, of all accounts together; one that is not kept is asked for again.
/// With tokens of 1.5 KiB, as common servers grant them, some 30 MiB; at worst 128 MiB
/// ([`TOKEN_BYTES_MAX`]).
pub const TOKENS_KEPT_MAX: usize = 16 * 1024;

/// Most tokens asked for at once at one origin, whoever's they are: 8 answers of a quarter of a
/// second each are as many tokens a second as 10,000 credentials need whose tokens last 5 minutes.
pub const ASKED_PER_ORIGIN_MAX: usize = 8;

/// How long asking for a token may take, the wait for its turn included: the longest an attempt may.
pub const ASK_TIME_MAX: Duration = Duration::from_secs(30);

/// How long what came of asking holds, a failure or a token of however short a life: deliveries are
/// many, and a token URL is somebody's login.
pub const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Longest access token, in bytes: the usual limit of a whole head.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How long before its end a token is no longer used, so that none expires on its way.
pub const TOKEN_UNUSED_BEFORE_END: Duration = Duration::from_secs(30);

/// How long a token is used of which nobody said when it ends.
pub const TOKEN_LIFE_DEFAULT: Duration = Duration::from_mins(5);

/// How long a token is used at most, whatever is said.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_hours(24);

/// Longest description of a failure, in bytes: enough for every sentence of our own.
pub const DETAIL_BYTES_MAX: usize = 512;

/// Longest `Retry-After` passed on; keeps sums with it far from overflow. The engine has its own,
/// stricter bound.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24 * 366);
