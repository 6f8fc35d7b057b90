//! Asking a SOCKS5 proxy for a connection (RFC 1928), with a user's password (RFC 1929) if there
//! is one.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Credentials, ended};
use crate::dial::Stream;

const VERSION: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
const WITHOUT_PASSWORD: u8 = 0;
const WITH_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const GRANTED: u8 = 0;

/// Asks for a connection to the address. Afterwards the stream is that connection.
pub(super) async fn ask(
    stream: &mut dyn Stream,
    target: SocketAddr,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    let methods: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, WITHOUT_PASSWORD, WITH_PASSWORD],
        None => &[VERSION, 1, WITHOUT_PASSWORD],
    };
    send(stream, methods).await?;
    match (read::<2>(stream).await?, credentials) {
        ([VERSION, WITHOUT_PASSWORD], _) => {}
        ([VERSION, WITH_PASSWORD], Some(credentials)) => sign_in(stream, credentials).await?,
        ([VERSION, NO_METHOD], Some(_)) => {
            return Err(io::Error::other("takes no user name and password"));
        }
        ([VERSION, NO_METHOD], None) => return Err(io::Error::other("asks for credentials")),
        _ => return Err(io::Error::other("does not speak SOCKS5")),
    }
    send(stream, &request(target)).await?;
    let [version, reply, _, kind] = read::<4>(stream).await?;
    if version != VERSION {
        return Err(io::Error::other("does not speak SOCKS5"));
    }
    if reply != GRANTED {
        return Err(io::Error::other(format!("refused: {}", refusal(reply))));
    }
    // The address it calls from; nothing depends on it.
    match kind {
        IPV4 => drop(read::<6>(stream).await?),
        IPV6 => drop(read::<18>(stream).await?),
        NAME => {
            let [length] = read::<1>(stream).await?;
            let mut name_and_port = vec![0; usize::from(length) + 2];
            stream.read_exact(&mut name_and_port).await.map_err(|error| ended(&error))?;
        }
        _ => return Err(io::Error::other("answered with an address of no known kind")),
    }
    Ok(())
}

async fn sign_in(stream: &mut dyn Stream, credentials: &Credentials) -> io::Result<()> {
    let mut message = vec![PASSWORD_VERSION];
    for text in [&credentials.user, &credentials.password] {
        let length = u8::try_from(text.len()).expect("credentials are 255 bytes at most");
        message.push(length);
        message.extend_from_slice(text.as_bytes());
    }
    send(stream, &message).await?;
    match read::<2>(stream).await? {
        [PASSWORD_VERSION, GRANTED] => Ok(()),
        [PASSWORD_VERSION, _] => Err(io::Error::other("refused user name and password")),
        _ => Err(io::Error::other("does not speak SOCKS5")),
    }
}

fn request(target: SocketAddr) -> Vec<u8> {
    let mut message = vec![VERSION, CONNECT, 0];
    match target {
        SocketAddr::V4(target) => {
            message.push(IPV4);
            message.extend_from_slice(&target.ip().octets());
        }
        SocketAddr::V6(target) => {
            message.push(IPV6);
            message.extend_from_slice(&target.ip().octets());
        }
    }
    message.extend_from_slice(&target.port().to_be_bytes());
    message
}

/// RFC 1928, section 6.
fn refusal(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "no known reason",
    }
}

async fn send(stream: &mut dyn Stream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await
}

async fn read<const LENGTH: usize>(stream: &mut dyn Stream) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes).await.map_err(|error| ended(&error))?;
    Ok(bytes)
}
