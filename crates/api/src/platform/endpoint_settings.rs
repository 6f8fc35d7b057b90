//! Settings of an endpoint that are more than a word or a number: client certificate, OAuth 2,
//! metadata.
//!
//! Promise: what signs in for us is taken and never shown. Neighbour: `endpoints` shows and reads
//! them with everything else.

use std::collections::BTreeMap;

use domain::credentials::{ClientCredentials, ClientIdentity};
use engine::administer::{OAuth2Text, SecretText};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::fields::{self, Fields};

/// The certificate that is shown to a receiver that asks for one.
#[derive(Serialize, ToSchema)]
pub(super) struct ClientCertificate {
    /// SHA-256 of the certificate itself (DER), in hex, as `openssl x509 -fingerprint -sha256` tells
    /// it without its colons.
    #[schema(example = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")]
    sha256: String,
}

impl From<&ClientIdentity> for ClientCertificate {
    fn from(identity: &ClientIdentity) -> Self {
        Self { sha256: identity.certificate_sha256().unwrap_or_default() }
    }
}

/// Where a token for each delivery comes from, and for whom. The secret is not shown.
#[derive(Serialize, ToSchema)]
#[schema(as = OAuth2)]
pub(super) struct OAuth2Resource {
    /// Where tokens are given out.
    #[schema(format = "uri", example = "https://auth.customer.com/oauth/token")]
    token_url: String,
    /// The client's id.
    client_id: String,
    /// The scope asked for.
    #[schema(required, example = json!(null))]
    scope: Option<String>,
    /// The audience asked for.
    #[schema(required, example = json!(null))]
    audience: Option<String>,
}

impl From<&ClientCredentials> for OAuth2Resource {
    fn from(credentials: &ClientCredentials) -> Self {
        let request = credentials.request();
        Self {
            token_url: request.token_url.as_str().to_owned(),
            client_id: request.client_id.clone(),
            scope: request.scope.clone(),
            audience: request.audience.clone(),
        }
    }
}

/// OAuth 2 client credentials (RFC 6749, section 4.4): each delivery carries `authorization: Bearer`
/// with a token that is got from `token_url` with HTTP Basic authentication, and kept until 30
/// seconds before its end or until the receiver answers 401.
#[derive(ToSchema)]
#[schema(as = OAuth2Setting)]
#[expect(dead_code, reason = "describes the fields that `read_oauth2` reads")]
pub(super) struct OAuth2Setting {
    /// Where tokens are given out; called under the same rules as endpoints.
    #[schema(format = "uri", example = "https://auth.customer.com/oauth/token")]
    token_url: String,
    /// The client's id, at most 1,024 bytes.
    #[schema(min_length = 1, max_length = 1024)]
    client_id: String,
    /// The client's secret, at most 1,024 bytes.
    #[schema(min_length = 1, max_length = 1024)]
    client_secret: String,
    /// The scope to ask for, at most 1,024 bytes.
    #[schema(min_length = 1, max_length = 1024)]
    scope: Option<String>,
    /// The audience to ask for, at most 1,024 bytes.
    #[schema(min_length = 1, max_length = 1024)]
    audience: Option<String>,
}

/// The field `oauth2`; `Some(None)` if it is null.
#[expect(clippy::option_option, reason = "absent, null and given mean three things")]
pub(super) fn read_oauth2(fields: &mut Fields<'_>) -> Option<Option<OAuth2Text>> {
    const NAME: &str = "oauth2";
    let json: Option<&RawValue> = fields.nullable(NAME, "an object or null")?;
    let Some(json) = json else { return Some(None) };
    let text = fields::read_object(json, |fields| OAuth2Text {
        token_url: fields.required("token_url", "a string"),
        client_id: fields.required("client_id", "a string"),
        client_secret: SecretText(fields.required("client_secret", "a string")),
        scope: fields.optional("scope", "a string or null"),
        audience: fields.optional("audience", "a string or null"),
    });
    match text {
        Ok(text) => Some(Some(text)),
        Err(error) => {
            if error.violations().is_empty() {
                fields.refuse(NAME, error.message());
            }
            for wrong in error.violations() {
                fields.refuse(&format!("{NAME}.{}", wrong.field), wrong.reason.as_str());
            }
            None
        }
    }
}

/// The field `metadata`; null is none.
pub(super) fn read_metadata(fields: &mut Fields<'_>) -> Option<BTreeMap<String, String>> {
    let metadata: Option<BTreeMap<String, String>> =
        fields.nullable("metadata", "an object of strings, or null")?;
    Some(metadata.unwrap_or_default())
}

/// The field `client_key`; `Some(None)` if it is null.
#[expect(clippy::option_option, reason = "absent, null and given mean three things")]
pub(super) fn read_client_key(fields: &mut Fields<'_>) -> Option<Option<SecretText>> {
    let key: Option<String> = fields.nullable("client_key", "a string or null")?;
    Some(key.map(SecretText))
}
