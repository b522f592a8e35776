//! Traces reach an OpenTelemetry collector, within the trace of the caller, as far as it wants them sampled.

mod support;

#[cfg(not(feature = "otlp"))]
#[tokio::test]
async fn a_program_that_cannot_send_traces_says_so() {
    let mut server = support::process::Process::start_cold(&["--otlp-endpoint", "http://127.0.0.1:4317"], |_| {});
    assert_eq!(server.ended().await.code(), Some(2));
    assert!(server.log().contains("built without the feature otlp"), "{}", server.log());
}

#[cfg(feature = "otlp")]
mod otlp {
    use std::{sync::Arc, time::Duration};

    use opentelemetry_proto::tonic::{
        collector::trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
        common::v1::any_value::Value,
        trace::v1::{ResourceSpans, Span, span::SpanKind, status::StatusCode},
    };
    use parking_lot::Mutex;
    use rasid::proto::v1;
    use tokio::net::TcpListener;
    use tonic::{
        Request, Response, Status,
        transport::{Server, server::TcpIncoming},
    };

    use crate::support::{
        poisoned::{POISONED, poisoned_bundle},
        process::{Process, free_address},
        text,
    };

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    /// A collector that keeps what it gets.
    #[derive(Clone, Default)]
    struct Collector(Arc<Mutex<Vec<ResourceSpans>>>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, Status> {
            self.0.lock().extend(request.into_inner().resource_spans);
            Ok(Response::new(ExportTraceServiceResponse::default()))
        }
    }

    impl Collector {
        /// Starts one, and returns its URL.
        async fn start(&self) -> String {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
            tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
            url
        }

        fn spans(&self) -> Vec<Span> {
            let resources = self.0.lock();
            resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
        }
    }

    fn tag(body: &str, traceparent: Option<&str>) -> Request<v1::TagRequest> {
        let mut request = Request::new(v1::TagRequest { document: Some(text(body)), options: None });
        if let Some(header) = traceparent {
            request.metadata_mut().insert("traceparent", header.parse().unwrap());
        }
        request
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn attribute(span: &Span, key: &str) -> Option<Value> {
        span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
    }

    async fn stop(mut server: Process) -> String {
        server.signal("TERM");
        assert!(server.ended().await.success());
        server.log()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_is_a_span_in_the_trace_of_its_caller_and_the_last_ones_are_not_lost() {
        let collector = Collector::default();
        let url = collector.start().await;
        let bundle = poisoned_bundle();
        let model = bundle.path().to_str().unwrap();
        let flags = [
            "--otlp-endpoint",
            &url,
            "--otlp-service-name",
            "rasid-test",
            "--model",
            model,
            "--log",
            "warn,rasid::access=info",
        ];
        let server = Process::start(&flags).await;
        let mut client = server.client().await;
        let header = format!("00-{TRACE}-{PARENT}-01");
        client.tag(tag("Rain in Basra.", Some(&header))).await.unwrap();
        client.tag(tag(&format!("{POISONED} in Basra."), Some(&header))).await.unwrap_err();
        // Right away, long before spans are sent of themselves.
        let log = stop(server).await;

        let spans = collector.spans();
        let calls: Vec<_> = spans.iter().filter(|span| span.name == "rasid.v1.TaggerService/Tag").collect();
        assert_eq!(calls.len(), 2, "{spans:?}");
        for call in &calls {
            assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
            assert_eq!(call.kind(), SpanKind::Server);
            assert_eq!(attribute(call, "rpc.method"), Some(Value::StringValue("Tag".to_owned())));
            assert_eq!(attribute(call, "rasid.key"), Some(Value::StringValue("anonymous".to_owned())));
        }
        assert_eq!(attribute(calls[0], "rpc.grpc.status_code"), Some(Value::IntValue(0)));
        assert_eq!(attribute(calls[1], "rpc.grpc.status_code"), Some(Value::IntValue(13)));
        assert_eq!(calls[1].status.as_ref().unwrap().code(), StatusCode::Error);
        // Below it the document, and below that what was done with it.
        let children = |parent: &Span| {
            let own = spans.iter().filter(|span| span.parent_span_id == parent.span_id);
            own.map(|span| span.name.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(children(calls[0]), ["document".to_owned()].into());
        let document = spans.iter().find(|span| span.parent_span_id == calls[0].span_id).unwrap();
        assert_eq!(children(document), ["encode", "finish", "queue", "read"].map(str::to_owned).into());
        // The log speaks of the same trace and the same call.
        assert!(log.contains(&format!("trace_id=\"{TRACE}\"")), "{log}");
        let Some(Value::StringValue(id)) = attribute(calls[0], "request_id") else { panic!("{calls:?}") };
        assert!(log.contains(&id), "{id} is not in {log}");

        let resources = collector.0.lock();
        let service = resources[0].resource.as_ref().unwrap().attributes.iter().find(|pair| pair.key == "service.name");
        let name = Value::StringValue("rasid-test".to_owned());
        assert_eq!(service.unwrap().value.as_ref().unwrap().value, Some(name));
        // Nothing of the text, and nothing of the transport, which sends the spans itself.
        let all = format!("{:?}", *resources);
        assert!(!all.contains("Basra") && !all.contains(POISONED), "{all}");
        assert!(spans.iter().all(|span| span.trace_id == calls[0].trace_id), "{spans:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_caller_decides_on_its_own_traces_and_the_ratio_on_the_others() {
        let collector = Collector::default();
        let url = collector.start().await;
        let server = Process::start(&["--otlp-endpoint", &url, "--otlp-sampling-ratio", "0"]).await;
        let mut client = server.client().await;
        client.tag(tag("Rain.", None)).await.unwrap();
        client.tag(tag("Rain.", Some(&format!("00-{}-{PARENT}-00", TRACE.replace("0af", "0bf"))))).await.unwrap();
        client.tag(tag("Rain.", Some(&format!("00-{TRACE}-{PARENT}-01")))).await.unwrap();
        let log = stop(server).await;
        let calls: Vec<_> = collector.spans().into_iter().filter(|span| span.name.ends_with("/Tag")).collect();
        assert_eq!(calls.len(), 1, "{log}");
        assert_eq!(hex(&calls[0].trace_id), TRACE);

        let collector = Collector::default();
        let url = collector.start().await;
        let server = Process::start(&["--otlp-endpoint", &url]).await;
        let mut client = server.client().await;
        client.tag(tag("Rain.", None)).await.unwrap();
        client.tag(tag("Rain.", Some(&format!("00-{TRACE}-{PARENT}-00")))).await.unwrap();
        let log = stop(server).await;
        let calls: Vec<_> = collector.spans().into_iter().filter(|span| span.name.ends_with("/Tag")).collect();
        assert_eq!(calls.len(), 1, "{log}");
        assert!(calls[0].parent_span_id.is_empty() && hex(&calls[0].trace_id) != TRACE);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_a_collector_the_service_goes_on_and_ends() {
        let nobody = format!("http://{}", free_address());
        let server = Process::start(&["--otlp-endpoint", &nobody]).await;
        for _ in 0..3 {
            server.client().await.tag(tag("Rain.", None)).await.unwrap();
        }
        let log = tokio::time::timeout(Duration::from_secs(60), stop(server)).await.unwrap();
        assert!(log.contains("BatchSpanProcessor.ExportError"), "{log}");
    }
}
