//! Smoke test of kube-rs: a derived CRD, server-side apply, a reflector, a controller with owned
//! objects and a finalizer. Prints one line of JSON that says what it saw.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt, Resource, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        finalizer::{Error as FinalizerError, Event, finalizer},
        reflector, wait::{await_condition, conditions},
        watcher,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(CustomResource, Deserialize, Serialize, Clone, Debug, JsonSchema)]
#[kube(group = "clients.pilothouse.dev", version = "v1", kind = "Gadget", namespaced, status = "GadgetStatus")]
#[kube(printcolumn = r#"{"name":"Size","type":"integer","jsonPath":".spec.size"}"#)]
struct GadgetSpec {
    size: u32,
    color: Option<String>,
}

#[derive(Deserialize, Serialize, Clone, Debug, Default, JsonSchema)]
struct GadgetStatus {
    ready: bool,
}

async fn reconcile(gadget: Arc<Gadget>, client: Arc<Client>) -> Result<Action, FinalizerError<kube::Error>> {
    let namespace = gadget.namespace().unwrap_or_default();
    let api: Api<Gadget> = Api::namespaced((*client).clone(), &namespace);
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), &namespace);
    let status_api = api.clone();
    finalizer(&api, "clients.pilothouse.dev/gadget", gadget, |event| async move {
        if let Event::Apply(gadget) = event {
            let name = gadget.name_any();
            let owned = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    owner_references: gadget.controller_owner_ref(&()).map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                },
                data: Some(BTreeMap::from([("size".into(), gadget.spec.size.to_string())])),
                ..ConfigMap::default()
            };
            let params = PatchParams::apply("gadgets").force();
            maps.patch(&name, &params, &Patch::Apply(&owned)).await?;
            let status = json!({"status": {"ready": true}});
            status_api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        }
        Ok(Action::await_change())
    })
    .await
}

async fn crd(client: &Client) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.create(&PostParams::default(), &Gadget::crd()).await?;
    let established = await_condition(crds, "gadgets.clients.pilothouse.dev", conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(10), established).await??;
    Ok(())
}

async fn controller(client: &Client) -> Result<serde_json::Value> {
    let api: Api<Gadget> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let running = Controller::new(api.clone(), watcher::Config::default())
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client.clone()))
        .for_each(|_| async {});
    let story = async {
        let gadget = Gadget::new("one", GadgetSpec { size: 3, color: None });
        api.create(&PostParams::default(), &gadget).await?;
        let ready = |gadget: Option<&Gadget>| gadget.and_then(|g| g.status.as_ref()).is_some_and(|s| s.ready);
        await_condition(api.clone(), "one", ready).await?;
        let owned = maps.get("one").await?;
        let uid = owned.uid().context("no uid")?;
        maps.delete("one", &DeleteParams::default()).await?;
        let again = |map: Option<&ConfigMap>| map.is_some_and(|m| m.uid().as_deref() != Some(uid.as_str()));
        await_condition(maps.clone(), "one", again).await?;
        let live = api.get("one").await?;
        let finalizers = live.finalizers().to_vec();
        api.delete("one", &DeleteParams::default()).await?;
        await_condition(maps.clone(), "one", |map: Option<&ConfigMap>| map.is_none()).await?;
        anyhow::Ok(json!({"finalizers": finalizers, "size": owned.data.unwrap_or_default()["size"]}))
    };
    tokio::select! {
        found = story => found,
        () = running => bail!("the controller has ended"),
    }
}

async fn reflect(client: &Client) -> Result<serde_json::Value> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let (_reader, writer) = reflector::store();
    let config = watcher::Config::default().streaming_lists();
    let stream = watcher(namespaces.clone(), config).default_backoff().reflect(writer).applied_objects();
    let mut stream = Box::pin(stream);
    namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "reflected"}}))?).await?;
    while let Some(namespace) = stream.try_next().await? {
        if namespace.name_any() == "reflected" {
            break;
        }
    }
    let list = namespaces.list(&ListParams::default().limit(2)).await?;
    let params = WatchParams::default().fields("metadata.name=reflected").timeout(5);
    let version = namespaces.get("reflected").await?.resource_version().context("no version")?;
    let mut events = Box::pin(namespaces.watch(&params, &version).await?);
    let label = json!({"metadata": {"labels": {"seen": "yes"}}});
    namespaces.patch("reflected", &PatchParams::default(), &Patch::Merge(&label)).await?;
    let modified = matches!(events.try_next().await?, Some(WatchEvent::Modified(_)));
    let missing = namespaces.get("nowhere").await;
    let code = match missing {
        Err(kube::Error::Api(status)) => status.code,
        other => bail!("{other:?}"),
    };
    Ok(json!({"page": list.items.len(), "continues": list.metadata.continue_.is_some(),
              "modified": modified, "missing": code}))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let client = Client::try_default().await?;
    let story = async {
        let version = client.apiserver_version().await?;
        crd(&client).await?;
        let reflected = reflect(&client).await?;
        let controlled = controller(&client).await?;
        anyhow::Ok(json!({"version": version.minor, "reflector": reflected, "controller": controlled}))
    };
    println!("{}", tokio::time::timeout(Duration::from_secs(45), story).await??);
    Ok(())
}
