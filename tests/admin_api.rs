//! What an operator may do with a running server, on a port of its own, with keys of its own: a new model, the state of the server. Nobody
//! else gets there, and the public port knows nothing of it.

mod support;

use std::{fs, net::SocketAddr};

use futures_util::{StreamExt, stream};
use rasid::proto::{
    admin::v1::{self as admin, ServingState, admin_service_client::AdminServiceClient},
    v1::{self, stream_tag_request::Message},
};
use support::{
    TestServer, articles,
    keys::{KeysFile, entry, reason, with_key},
    models::{Current, version},
    process::free_address,
    text,
};
use tonic::{Code, Request, transport::Channel};

const KEY: &str = "the operator's";

/// A server with a port for operators.
struct Served {
    server: TestServer,
    admin: SocketAddr,
    _keys: KeysFile,
}

impl Served {
    async fn start(flags: &[&str]) -> Self {
        let (admin, keys) = (free_address(), KeysFile::new(&entry("operator", KEY)));
        let (address, path) = (admin.to_string(), keys.path());
        let own = ["--admin-listen", &address, "--admin-keys", path.to_str().unwrap()];
        let server = TestServer::start(&[flags, &own].concat()).await;
        Self { server, admin, _keys: keys }
    }

    async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::connect(format!("http://{}", self.admin)).await.unwrap()
    }

    async fn status(&self) -> admin::GetServerStatusResponse {
        let request = with_key(KEY, admin::GetServerStatusRequest {});
        self.admin().await.get_server_status(request).await.unwrap().into_inner()
    }

    async fn reload(&self) -> Result<admin::ReloadModelResponse, tonic::Status> {
        let request = with_key(KEY, admin::ReloadModelRequest {});
        Ok(self.admin().await.reload_model(request).await?.into_inner())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_reloaded_and_the_answer_names_both() {
    let (old, new) = (version("1.0.0"), version("2.0.0"));
    let current = Current::new(old.path());
    let served = Served::start(&["--model", &current.path()]).await;
    let versions =
        |reload: admin::ReloadModelResponse| (reload.old_model.unwrap().version, reload.new_model.unwrap().version);
    let named = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    assert_eq!(versions(served.reload().await.unwrap()), named("1.0.0", "1.0.0"));
    current.set(new.path());
    assert_eq!(versions(served.reload().await.unwrap()), named("1.0.0", "2.0.0"));

    fs::write(old.path().join("encoder.safetensors"), "no weights").unwrap();
    current.set(old.path());
    let status = served.reload().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "MODEL_UNUSABLE"), "{status:?}");
    assert!(status.message().contains("encoder.safetensors"), "{}", status.message());
    assert_eq!(served.status().await.model.unwrap().version, "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_keys_of_operators_open_it_and_they_open_nothing_else() {
    let clients = KeysFile::new(&entry("desk", "the desk's"));
    let served = Served::start(&["--keys-file", clients.path().to_str().unwrap()]).await;
    let mut admin = served.admin().await;
    let mut tagger = served.server.client().await;

    let missing = admin.reload_model(admin::ReloadModelRequest {}).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::Unauthenticated, "KEY_MISSING"));
    for status in [
        admin.reload_model(with_key("the desk's", admin::ReloadModelRequest {})).await.unwrap_err(),
        admin.get_server_status(with_key("the desk's", admin::GetServerStatusRequest {})).await.unwrap_err(),
        tagger.get_model_info(with_key(KEY, v1::GetModelInfoRequest {})).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "KEY_INVALID"), "{status:?}");
    }
    let public = AdminServiceClient::new(served.server.channel().await);
    let elsewhere = public.clone().get_server_status(with_key("the desk's", admin::GetServerStatusRequest {})).await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::Unimplemented);
    assert!(admin.get_server_status(with_key(KEY, admin::GetServerStatusRequest {})).await.is_ok());
    assert!(tagger.get_model_info(with_key("the desk's", v1::GetModelInfoRequest {})).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_told_from_idle_to_the_end() {
    let clients = KeysFile::new(&(entry("desk", "the desk's") + &entry("job", "the job's")));
    let served = Served::start(&["--keys-file", clients.path().to_str().unwrap(), "--batch-tokens", "64"]).await;
    let idle = served.status().await;
    assert_eq!(idle.state(), ServingState::Serving);
    assert_eq!(idle.model.unwrap().name, "rasid-news");
    assert_eq!((idle.queued_tokens, idle.max_queued_tokens), (0, 1 << 17));
    assert_eq!((idle.admitted_documents, idle.waiting_documents, idle.keys.len()), (0, 0, 0));
    assert!(idle.start_time.unwrap().seconds > 1_700_000_000 && idle.uptime.is_some());
    assert_eq!(idle.server_version, env!("CARGO_PKG_VERSION"));

    // A long article of one client, an open stream of another.
    let long: String = articles().iter().map(|(_, body)| body.repeat(20)).collect();
    let mut client = served.server.client().await;
    let request = with_key("the desk's", v1::TagRequest { document: Some(text(&long)), options: None });
    let call = tokio::spawn(async move { client.tag(request).await.map(drop) });
    let document = v1::StreamTagRequest { message: Some(Message::Document(text("Rain in Basra."))) };
    let messages = stream::iter([document]).chain(stream::pending());
    let mut client = served.server.client().await;
    let mut results = client.stream_tag(with_key("the job's", messages)).await.unwrap().into_inner();
    results.next().await.unwrap().unwrap();
    let busy = loop {
        let status = served.status().await;
        if status.admitted_documents == 1 && status.keys.len() == 2 {
            break status;
        }
    };
    let [desk, job] = &busy.keys[..] else { panic!("{busy:?}") };
    assert_eq!((desk.name.as_str(), job.name.as_str()), ("desk", "job"));
    assert_eq!((desk.interactive_tokens, desk.bulk_tokens, job.interactive_tokens), (busy.queued_tokens, 0, 0));
    assert!(desk.held_bytes as usize > long.len() && job.held_bytes > 0);
    assert_eq!(busy.held_bytes, desk.held_bytes + job.held_bytes);

    let Served { mut server, admin: address, _keys } = served;
    server.stop();
    let mut admin = AdminServiceClient::connect(format!("http://{address}")).await.unwrap();
    let draining = loop {
        let request = with_key(KEY, admin::GetServerStatusRequest {});
        let status = admin.get_server_status(request).await.unwrap().into_inner();
        if status.state() != ServingState::Serving {
            break status;
        }
    };
    assert_eq!(draining.state(), ServingState::Draining);
    call.abort();
    drop(results);
    drop(client);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn without_keys_it_is_not_opened() {
    let address = free_address().to_string();
    let server = TestServer::start_cold(&["--admin-listen", &address]).await;
    let error = server.ended().await.unwrap_err().to_string();
    assert!(error.contains("admin_listen needs admin_keys"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_tells_of_it_only_there_and_only_to_operators() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let served = Served::start(&[]).await;
    let list = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        stream::iter([ServerReflectionRequest { host: String::new(), message_request }])
    };
    let services = |channel: Channel, request: Request<stream::Iter<std::array::IntoIter<_, 1>>>| async move {
        let mut answers = ServerReflectionClient::new(channel).server_reflection_info(request).await?.into_inner();
        let answer = answers.next().await.unwrap()?;
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
        Ok::<_, tonic::Status>(list.service.into_iter().map(|service| service.name).collect::<Vec<_>>())
    };
    let public = services(served.server.channel().await, Request::new(list())).await.unwrap();
    assert!(public.iter().all(|name| !name.contains("admin")), "{public:?}");
    let admin = Channel::from_shared(format!("http://{}", served.admin)).unwrap().connect().await.unwrap();
    let refused = services(admin.clone(), Request::new(list())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let told = services(admin, with_key(KEY, list())).await.unwrap();
    assert!(told.iter().any(|name| name == "rasid.admin.v1.AdminService"), "{told:?}");
}
