// Smoke test of the JavaScript client: prints one line of JSON that says what it saw.
import * as k8s from "@kubernetes/client-node";

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = "default";
const seen = {};

seen.version = (await config.makeApiClient(k8s.VersionApi).getCode()).minor;

const body = { metadata: { name: "one", labels: { story: "node" } }, data: { a: "1" } };
const made = await core.createNamespacedConfigMap({ namespace, body });
const changed = await core.patchNamespacedConfigMap(
  { namespace, name: "one", body: [{ op: "replace", path: "/data/a", value: "2" }] },
  k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.JsonPatch),
);
seen.data = changed.data;
const failed = async (call) => {
  try {
    await call;
    return 200;
  } catch (error) {
    return error.code;
  }
};
seen.conflict = await failed(core.replaceNamespacedConfigMap({ namespace, name: "one", body: made }));
seen.missing = await failed(core.readNamespacedConfigMap({ namespace, name: "nowhere" }));

const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: "story=node" });
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const informer = k8s.makeInformer(config, path, list, "story=node");
const events = [];
let arrived = () => {};
for (const kind of ["add", "update", "delete"]) {
  informer.on(kind, (object) => {
    events.push(`${kind} ${object.metadata.name}`);
    arrived();
  });
}
const until = (count) =>
  new Promise((resolve) => {
    arrived = () => events.length >= count && resolve();
    arrived();
  });
await informer.start();
await until(1);
await core.createNamespacedConfigMap({ namespace, body: { ...body, metadata: { ...body.metadata, name: "two" } } });
await until(2);
await core.deleteNamespacedConfigMap({ namespace, name: "two" });
await until(3);
await informer.stop();
seen.events = events;

const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const applied = await objects.patch(
  { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "applied", namespace }, data: { k: "v" } },
  undefined,
  undefined,
  "smoke",
  true,
  k8s.PatchStrategy.ServerSideApply,
);
seen.manager = applied.metadata.managedFields[0].manager;
console.log(JSON.stringify(seen));
process.exit(0);
