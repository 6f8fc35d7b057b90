//! What a caller says of a client certificate and of OAuth 2, read field by field.
//!
//! Promise: a certificate that the sender could not show is refused when it is set, and so is a
//! token URL that may not be called; no refusal repeats a secret.

use std::fmt;

use domain::credentials::{
    CLIENT_PEM_BYTES_MAX, ClientCredentials, ClientIdentity, OAUTH2_TEXT_BYTES_MAX, TokenRequest,
};
use domain::target_url::UrlPolicy;

use crate::error::Violation;
use crate::sender::{IdentityRefusal, Sender};

/// A text of the caller's that no log may show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What a caller says of how to get a token.
#[derive(Clone, Debug, Default)]
pub struct OAuth2Text {
    /// Where tokens are given out.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretText,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// The audience to ask for.
    pub audience: Option<String>,
}

/// Reads certificate and key, which are set and removed together. `None` if neither is said.
#[expect(clippy::option_option, reason = "absent, null and given mean three things")]
pub(super) fn read_identity(
    sender: &dyn Sender,
    certificate: Option<Option<String>>,
    key: Option<Option<SecretText>>,
    wrong: &mut Vec<Violation>,
) -> Option<Option<ClientIdentity>> {
    const CERTIFICATE: &str = "client_certificate";
    const KEY: &str = "client_key";
    let mut refuse = |field: &str, reason: String| {
        wrong.push(Violation { field: field.to_owned(), reason });
    };
    let too_long = || format!("must have at most {CLIENT_PEM_BYTES_MAX} bytes");
    let (certificate, key) = match (certificate, key) {
        (None, None) => return None,
        (Some(None), None | Some(None)) => return Some(None),
        (None, Some(None)) => {
            refuse(CERTIFICATE, "is removed together with client_key: must be null too".to_owned());
            return None;
        }
        (Some(Some(_)), None | Some(None)) => {
            refuse(KEY, "is required with client_certificate".to_owned());
            return None;
        }
        (None | Some(None), Some(Some(_))) => {
            refuse(CERTIFICATE, "is required with client_key".to_owned());
            return None;
        }
        (Some(Some(certificate)), Some(Some(key))) => (certificate, key.0),
    };
    if certificate.len() > CLIENT_PEM_BYTES_MAX || key.len() > CLIENT_PEM_BYTES_MAX {
        for (field, text) in [(CERTIFICATE, &certificate), (KEY, &key)] {
            if text.len() > CLIENT_PEM_BYTES_MAX {
                refuse(field, too_long());
            }
        }
        return None;
    }
    let identity = ClientIdentity::new(&certificate, &key);
    match sender.check_identity(&identity) {
        Ok(()) => return Some(Some(identity)),
        Err(IdentityRefusal::Certificate(reason)) => refuse(CERTIFICATE, reason),
        Err(IdentityRefusal::Key(reason)) => refuse(KEY, reason),
    }
    None
}

/// Reads how to get a token; every wrong field within is named.
pub(super) fn read_credentials(
    urls: &UrlPolicy,
    text: OAuth2Text,
    wrong: &mut Vec<Violation>,
) -> Option<ClientCredentials> {
    let already_wrong = wrong.len();
    let mut refuse = |field: &str, reason: String| {
        wrong.push(Violation { field: format!("oauth2.{field}"), reason });
    };
    let token_url = urls.parse(&text.token_url);
    if let Err(refusal) = &token_url {
        refuse("token_url", refusal.to_string());
    }
    let texts = [
        ("client_id", Some(&text.client_id)),
        ("client_secret", Some(&text.client_secret.0)),
        ("scope", text.scope.as_ref()),
        ("audience", text.audience.as_ref()),
    ];
    for (field, text) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > OAUTH2_TEXT_BYTES_MAX {
            refuse(field, format!("must have 1 to {OAUTH2_TEXT_BYTES_MAX} bytes"));
        } else if text.contains(char::is_control) {
            refuse(field, "must have no control characters".to_owned());
        }
    }
    match token_url {
        Ok(token_url) if wrong.len() == already_wrong => {
            Some(ClientCredentials::new(TokenRequest {
                token_url,
                client_id: text.client_id,
                client_secret: text.client_secret.0,
                scope: text.scope,
                audience: text.audience,
            }))
        }
        _ => None,
    }
}
