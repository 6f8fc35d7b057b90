//! A filter tried on a sample, before it is set or to see what it does.

use bytes::Bytes;
use domain::event::{EntityId, EventType};
use domain::id::EndpointId;
use domain::limits::ENTITY_IDS_MAX;

use super::{Explanation, Filter, Subject};
use crate::Engine;
use crate::error::EngineError;
use crate::publish::check_data;
use crate::scope::Scope;

/// What to try, each field as sent.
#[derive(Clone, Debug, Default)]
pub struct FilterTrial {
    /// The filter; the endpoint's own if not given.
    pub filter: Option<String>,
    /// The type of the event; one that the endpoint subscribed to if not given.
    pub event_type: Option<String>,
    /// One JSON object, already known to be valid JSON; the sample of the type if not given.
    pub data: Option<Bytes>,
    /// What the event is about.
    pub entity_ids: Vec<String>,
}

impl Engine {
    /// Applies a filter of the endpoint to a sample, and says why it decided so. Nothing is stored
    /// or sent.
    pub async fn test_filter(
        &self,
        scope: Scope,
        endpoint: EndpointId,
        trial: FilterTrial,
    ) -> Result<Explanation, EngineError> {
        let endpoint = self.endpoint(scope, endpoint).await?;
        let text = match (&trial.filter, &endpoint.filter) {
            (Some(text), _) => text.as_str(),
            (None, Some(own)) => own.as_str(),
            (None, None) => {
                return Err(EngineError::invalid("filter", "is required: the endpoint has none"));
            }
        };
        let filter = Filter::compile(text)
            .map_err(|error| EngineError::invalid("filter", error.to_string()))?;
        let types = self.publishable(endpoint.contract).await?;
        let name = trial.event_type.as_deref();
        let name = name.unwrap_or_else(|| types.test_type(&endpoint.subscription));
        let event_type: EventType = types.read_type(name)?;
        let data = match trial.data {
            Some(data) => data,
            None => types.sample(name)?,
        };
        check_data(&data)?;
        if trial.entity_ids.len() > ENTITY_IDS_MAX {
            let reason = format!("must have at most {ENTITY_IDS_MAX} entries");
            return Err(EngineError::invalid("entity_ids", reason));
        }
        let entity_ids: Vec<_> = trial
            .entity_ids
            .iter()
            .map(|id| EntityId::parse(id))
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::invalid("entity_ids", error.to_string()))?;
        Ok(filter.explain(&Subject::new(&event_type, &entity_ids, &data)))
    }
}
