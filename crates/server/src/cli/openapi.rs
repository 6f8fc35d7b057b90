//! `postrider openapi`.

use crate::ending::Ending;

/// Prints the OpenAPI document of every route
#[derive(Debug, clap::Args)]
pub(super) struct Openapi {}

impl Openapi {
    #[expect(clippy::unused_self, reason = "every command is run on its arguments")]
    pub(super) fn run(self) -> Result<(), Ending> {
        let document = api::openapi_document()
            .to_pretty_json()
            .map_err(|error| Ending::failed(format!("cannot write the document: {error}")))?;
        super::print(&(document + "\n"))
    }
}
