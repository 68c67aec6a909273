//! A request for another node, signed if its unit asks for that: bound to the request where the node understands it.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::{Context, adopt::who, went::Went};
use crate::{
    engine::UnitHandle,
    request::{Offers, PayloadEnd, WorkRequest},
    sign::{Bond, SignError, digest},
    unit::Controller,
};

impl Context {
    /// The line of a request, with a fresh token if requests for the unit's node are signed.
    pub(super) fn signed(
        &self,
        unit: &UnitHandle,
        request: WorkRequest,
        offers: Offers,
    ) -> Result<String, Went> {
        self.line(unit, request, offers, None)
    }

    /// The same about the other node's unit in the name of ours, so that a node that has handed it over can say so.
    pub(super) fn signed_for(
        &self,
        unit: &UnitHandle,
        request: WorkRequest,
        offers: Offers,
    ) -> Result<String, Went> {
        self.line(unit, request, offers, offers.adopt.then(|| who(unit)))
    }

    fn line(
        &self,
        unit: &UnitHandle,
        mut request: WorkRequest,
        offers: Offers,
        name: Option<Controller>,
    ) -> Result<String, Went> {
        let to_line = |request: &WorkRequest| {
            let line = request.to_line();
            name.as_ref().map_or(line.clone(), |name| name.name_in(&line))
        };
        let current = unit.current();
        let Some(remote) = current.remote().filter(|remote| remote.sign_work) else {
            return Ok(to_line(&request));
        };
        let failed = |error: SignError| Went::failed(error.to_string());
        let signer = self.signer().ok_or_else(|| failed(SignError::NoKey))?;
        let (node, now) = (remote.remote_node.as_str(), SystemTime::now());
        let spec = unit.spec();
        let token = if offers.bound_token && is_whole(&request) {
            let members: Map<String, Value> = serde_json::from_str(&to_line(&request)).unwrap_or_default(); // it is an object
            let whom = spec.on_behalf_of.as_ref().unwrap_or(&spec.owner);
            let subject = format!("{whom}@{}", signer.node());
            signer.sign_bound(node, Bond { digest: &digest(&members), subject: &subject }, now)
        } else {
            signer.sign(node, now)
        };
        if let Some(signature) = request.signature_mut() {
            *signature = token.map_err(failed)?;
        }
        Ok(to_line(&request))
    }
}

/// Whether the request says all of what it asks for. Of a payload that a Receptor daemon took in nobody noted the digest.
fn is_whole(request: &WorkRequest) -> bool {
    match request {
        WorkRequest::Submit(submit) => {
            matches!(&submit.extension.payload, Some(PayloadEnd::Length { sha256: Some(_), .. }))
        }
        _ => true,
    }
}
