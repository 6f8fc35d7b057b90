//! The texts of an endpoint that are sealed under a master key, and how several texts become one.
//!
//! Neighbours: `row` opens them, `catalogue` writes them, `keys` seals them again.

use domain::credentials::{ClientCredentials, ClientIdentity, TokenRequest};
use domain::endpoint::{Endpoint, Metadata};
use domain::id::{AccountId, EndpointId};
use domain::sealing::Binding;
use domain::target_url::TargetUrl;
use store::vault::Vault;

use crate::row::headers;

/// How many there are.
pub(crate) const SEALED: usize = 5;

/// The place of an endpoint's text.
type BindingOf = fn(AccountId, EndpointId) -> Binding;

/// The columns of `endpoints` that hold them, and what each is bound to.
pub(crate) const COLUMNS: [(&str, BindingOf); SEALED] = [
    ("secret", Binding::Secret),
    ("previous_secret", Binding::PreviousSecret),
    ("headers", Binding::Headers),
    ("client_identity", Binding::ClientIdentity),
    ("client_credentials", Binding::ClientCredentials),
];

/// What stands in each of the columns.
pub(crate) struct SealedTexts(pub(crate) [Option<Vec<u8>>; SEALED]);

impl SealedTexts {
    /// The endpoint's texts, sealed for its row.
    pub(crate) fn of(endpoint: &Endpoint, vault: &Vault) -> Self {
        let previous = endpoint.previous_secret.as_ref();
        let plain = [
            Some(endpoint.secret.reveal().as_bytes().to_vec()),
            previous.map(|previous| previous.secret.reveal().as_bytes().to_vec()),
            Some(headers(&endpoint.headers).into_bytes()),
            endpoint.client_identity.as_ref().map(pack_identity),
            endpoint.client_credentials.as_ref().map(pack_credentials),
        ];
        let mut columns = COLUMNS.iter();
        Self(plain.map(|plain| {
            let (_, binding) = columns.next().expect("there are as many texts as columns");
            let place = binding(endpoint.account, endpoint.id);
            plain.map(|plain| vault.seal_secret(&place, &plain))
        }))
    }
}

/// Stands for a text that is not there; none is so long.
const NO_TEXT: u32 = u32::MAX;

/// Texts one after the other, each after its length in 4 bytes.
fn pack<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut packed = Vec::new();
    for text in texts {
        let length = text.map_or(NO_TEXT, |text| {
            u32::try_from(text.len()).expect("a text of an endpoint is far below 4 GiB")
        });
        packed.extend_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(text.unwrap_or_default().as_bytes());
    }
    packed
}

fn unpack(mut packed: &[u8]) -> Option<Vec<Option<String>>> {
    let mut texts = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length);
        if length == NO_TEXT {
            texts.push(None);
            packed = rest;
            continue;
        }
        let (text, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        texts.push(Some(std::str::from_utf8(text).ok()?.to_owned()));
        packed = rest;
    }
    Some(texts)
}

fn pack_identity(identity: &ClientIdentity) -> Vec<u8> {
    pack([Some(identity.certificate_chain()), Some(identity.private_key())])
}

pub(crate) fn parse_identity(packed: &[u8]) -> Option<ClientIdentity> {
    let [certificate_chain, private_key] = unpack(packed)?.try_into().ok()?;
    Some(ClientIdentity::new(&certificate_chain?, &private_key?))
}

fn pack_credentials(credentials: &ClientCredentials) -> Vec<u8> {
    let credentials = credentials.request();
    pack([
        Some(credentials.token_url.as_str()),
        Some(credentials.client_id.as_str()),
        Some(credentials.client_secret.as_str()),
        credentials.scope.as_deref(),
        credentials.audience.as_deref(),
    ])
}

pub(crate) fn parse_credentials(packed: &[u8]) -> Option<ClientCredentials> {
    let [token_url, client_id, client_secret, scope, audience] = unpack(packed)?.try_into().ok()?;
    Some(ClientCredentials::new(TokenRequest {
        token_url: TargetUrl::from_stored(&token_url?).ok()?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
        audience,
    }))
}

/// Names and texts in turn; `None` for none, which most endpoints have.
pub(crate) fn pack_metadata(metadata: &Metadata) -> Option<Vec<u8>> {
    let entries = metadata.entries().iter();
    let texts = entries.flat_map(|(name, text)| [Some(name.as_str()), Some(text.as_str())]);
    Some(pack(texts)).filter(|packed| !packed.is_empty())
}

pub(crate) fn parse_metadata(packed: &[u8]) -> Option<Metadata> {
    let texts: Vec<String> = unpack(packed)?.into_iter().collect::<Option<_>>()?;
    let (pairs, rest) = texts.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    Metadata::new(pairs.iter().cloned().map(|[name, text]| (name, text)).collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_texts_read_back_and_nothing_else_is_read() {
        let identity = ClientIdentity::new(&"-----BEGIN CERTIFICATE-----\n".repeat(9), "");
        let packed = pack_identity(&identity);
        assert_eq!(parse_identity(&packed), Some(identity));
        assert_eq!(parse_credentials(&packed), None);
        for length in 0..packed.len() {
            assert_eq!(parse_identity(&packed[..length]), None, "cut to {length}");
        }
        let credentials = ClientCredentials::new(TokenRequest {
            token_url: TargetUrl::from_stored("https://login.customer.com/token").unwrap(),
            client_id: "ü\nx".to_owned(),
            client_secret: "s".to_owned(),
            scope: None,
            audience: Some(String::new()),
        });
        assert_eq!(parse_credentials(&pack_credentials(&credentials)), Some(credentials));
        let entries = [("a: b\n", ""), ("team", "video")];
        let entries = entries.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let metadata = Metadata::new(entries.into()).unwrap();
        assert_eq!(parse_metadata(&pack_metadata(&metadata).unwrap()), Some(metadata));
        assert_eq!(pack_metadata(&Metadata::default()), None);
    }
}
