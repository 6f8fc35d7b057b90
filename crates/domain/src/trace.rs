//! Trace contexts: what connects a publisher's trace with the deliveries it leads to (W3C Trace
//! Context, level 1).

use std::fmt;

/// A `traceparent` that was well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: u128,
    /// The span that this one comes from.
    pub parent_id: u64,
    /// Its flags; the lowest bit says that the trace is recorded.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent` header. `None` for anything that the standard tells to ignore: a
    /// wrong length or digit, version `ff`, a trace or parent of zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |field: &str, length| {
            field.len() == length && field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut fields = text.split('-');
        let (version, trace, parent, flags) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let all_fit = fits(version, 2) && fits(trace, 32) && fits(parent, 16) && fits(flags, 2);
        // Later versions may have more fields after these.
        if !all_fit || version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            parent_id: u64::from_str_radix(parent, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (context.trace_id != 0 && context.parent_id != 0).then_some(context)
    }

    /// The same trace, seen from another span.
    #[must_use]
    pub const fn under(self, span_id: u64) -> Self {
        Self { parent_id: span_id, ..self }
    }

    /// Whether whoever began the trace records it.
    pub const fn is_recorded(self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_well_formed_context_reads_back_and_another_is_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(good).unwrap();
        assert_eq!(context.to_string(), good);
        assert!(context.is_recorded());
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(TraceContext::parse(later), Some(context));
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
