//! Traces to an OpenTelemetry collector, over OTLP.

use std::time::Duration;

use http::{HeaderMap, Uri};
use opentelemetry::{
    Context, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::config::TelemetrySettings;

/// How long the last spans may take to be sent.
const LAST: Duration = Duration::from_secs(5);

/// What sends the traces.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Connects once there is something to send, and again whenever the collector was away.
    pub fn start(endpoint: &Uri, settings: &TelemetrySettings) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.to_string()).build()?;
        let resource = Resource::builder()
            .with_service_name(settings.otlp_service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let ratio = Sampler::TraceIdRatioBased(settings.otlp_sampling_ratio);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// Our own spans, and what went wrong within them; not those of the transport, which also sends the traces.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(&self) -> impl Layer<S> + use<S> {
        let is_ours = |metadata: &Metadata<'_>| {
            let level = if metadata.is_span() { Level::DEBUG } else { Level::WARN };
            metadata.target().starts_with("rasid") && *metadata.level() <= level
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("rasid"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_ours))
    }

    /// Sends what is left.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Puts a call's span into the trace of the caller, if it sent one along; returns the id of the trace.
pub fn adopt(span: &Span, headers: &HeaderMap) -> Option<String> {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    // Fails only if there is nobody to trace.
    let _ = span.set_parent(parent);
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// Adds what is known of a span.
pub fn describe<const N: usize>(span: &Span, attributes: [(&'static str, Value); N]) {
    for (key, value) in attributes {
        span.set_attribute(key, value);
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
