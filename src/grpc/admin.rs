//! The calls of `rasid.admin.v1`: a new model, the state of the server.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use tonic::{Request, Response, Status};

use super::{observe::note_key, reload, response, shared::Shared, status::CallError};
use crate::{
    engine::{Load, Tenant, TenantLoad},
    proto::admin::v1::{self, admin_service_server::AdminService},
};

/// The service.
#[derive(Debug, Clone)]
pub struct Admin {
    shared: Arc<Shared>,
    started: (SystemTime, Instant),
}

impl Admin {
    /// A service over what the calls of a server share, that starts now.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, started: (SystemTime::now(), Instant::now()) }
    }

    fn state(&self) -> v1::ServingState {
        match self.shared.engine() {
            Ok(_) => v1::ServingState::Serving,
            Err(CallError::Loading) => v1::ServingState::Loading,
            Err(_) => v1::ServingState::Draining,
        }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn reload_model(
        &self,
        request: Request<v1::ReloadModelRequest>,
    ) -> Result<Response<v1::ReloadModelResponse>, Status> {
        note_caller(&request);
        let reload = reload::reload(&self.shared).await.map_err(CallError::from)?;
        Ok(Response::new(v1::ReloadModelResponse {
            old_model: reload.old.as_deref().map(response::model_descriptor),
            new_model: Some(response::model_descriptor(&reload.new)),
        }))
    }

    async fn get_server_status(
        &self,
        request: Request<v1::GetServerStatusRequest>,
    ) -> Result<Response<v1::GetServerStatusResponse>, Status> {
        note_caller(&request);
        let engine = self.shared.host.current();
        let Load {
            queued_tokens,
            max_queued_tokens,
            admitted_documents,
            waiting_documents,
            held_bytes,
            max_held_bytes,
            tenants,
        } = self.shared.host.load();
        Ok(Response::new(v1::GetServerStatusResponse {
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(self.started.0.into()),
            uptime: prost_types::Duration::try_from(self.started.1.elapsed()).ok(),
            state: self.state().into(),
            model: engine.map(|engine| response::model_descriptor(engine.tagger().manifest())),
            queued_tokens: queued_tokens as u64,
            max_queued_tokens: max_queued_tokens as u64,
            admitted_documents: admitted_documents as u64,
            waiting_documents: waiting_documents as u64,
            held_bytes: held_bytes as u64,
            max_held_bytes: max_held_bytes as u64,
            keys: tenants.iter().map(usage).collect(),
        }))
    }
}

/// Names the operator in metrics and the log.
fn note_caller<T>(request: &Request<T>) {
    if let Some(tenant) = request.extensions().get::<Tenant>() {
        note_key(tenant.name());
    }
}

fn usage(load: &TenantLoad) -> v1::KeyUsage {
    v1::KeyUsage {
        name: load.tenant.name().to_owned(),
        interactive_tokens: load.interactive_tokens as u64,
        bulk_tokens: load.bulk_tokens as u64,
        waiting_documents: load.waiting_documents as u64,
        held_bytes: load.held_bytes as u64,
    }
}
