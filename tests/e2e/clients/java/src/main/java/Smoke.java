import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.api.model.GenericKubernetesResource;
import io.fabric8.kubernetes.api.model.Namespaced;
import io.fabric8.kubernetes.api.model.apiextensions.v1.CustomResourceDefinition;
import io.fabric8.kubernetes.api.model.apiextensions.v1.CustomResourceDefinitionBuilder;
import io.fabric8.kubernetes.api.model.apps.Deployment;
import io.fabric8.kubernetes.api.model.apps.DeploymentBuilder;
import io.fabric8.kubernetes.client.CustomResource;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.KubernetesClientException;
import io.fabric8.kubernetes.client.dsl.base.PatchContext;
import io.fabric8.kubernetes.client.dsl.base.PatchType;
import io.fabric8.kubernetes.client.informers.ResourceEventHandler;
import io.fabric8.kubernetes.client.informers.SharedIndexInformer;
import io.fabric8.kubernetes.model.annotation.Group;
import io.fabric8.kubernetes.model.annotation.Version;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Smoke test of the fabric8 client: prints what it saw, one "key=value" a line. */
public class Smoke {
  public static class WidgetSpec {
    public int size;
  }

  public static class WidgetStatus {
    public String phase;
  }

  @Group("clients.pilothouse.dev")
  @Version("v1")
  public static class Widget extends CustomResource<WidgetSpec, WidgetStatus> implements Namespaced {}

  public static void main(String[] arguments) throws Exception {
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      show("version", client.getKubernetesVersion().getMinor());
      configMaps(client);
      informer(client);
      deployment(client);
      custom(client);
    }
  }

  static void show(String key, Object value) {
    System.out.println(key + "=" + value);
  }

  static ConfigMap map(String name) {
    return new ConfigMapBuilder().withNewMetadata().withName(name).withNamespace("default")
        .addToLabels("story", "fabric8").endMetadata().addToData("a", "1").build();
  }

  static void configMaps(KubernetesClient client) {
    ConfigMap made = client.resource(map("one")).create();
    client.configMaps().inNamespace("default").withName("one").edit(
        current -> new ConfigMapBuilder(current).addToData("b", "2").build());
    try {
      client.resource(made).update();
      show("conflict", "none");
    } catch (KubernetesClientException error) {
      show("conflict", error.getCode());
    }
    ConfigMap wanted = map("one");
    wanted.setData(Map.of("c", "3"));
    ConfigMap applied = client.resource(wanted).fieldManager("smoke").forceConflicts().serverSideApply();
    show("applied", new java.util.TreeMap<>(applied.getData()));
    try {
      client.resource(map("Not_A_Name")).create();
    } catch (KubernetesClientException error) {
      show("invalid", error.getCode() + " " + error.getStatus().getDetails().getCauses().get(0).getField());
    }
    show("missing", client.configMaps().inNamespace("default").withName("nowhere").get());
  }

  static void informer(KubernetesClient client) throws Exception {
    BlockingQueue<String> events = new LinkedBlockingQueue<>();
    SharedIndexInformer<ConfigMap> informer = client.configMaps().inNamespace("default")
        .withLabel("story", "fabric8").inform(new ResourceEventHandler<>() {
          @Override public void onAdd(ConfigMap map) {
            events.add("add " + map.getMetadata().getName());
          }

          @Override public void onUpdate(ConfigMap old, ConfigMap map) {
            events.add("update " + map.getMetadata().getName());
          }

          @Override public void onDelete(ConfigMap map, boolean unknown) {
            events.add("delete " + map.getMetadata().getName());
          }
        });
    List<String> seen = new java.util.ArrayList<>();
    seen.add(events.poll(10, TimeUnit.SECONDS));
    client.resource(map("two")).create();
    seen.add(events.poll(10, TimeUnit.SECONDS));
    client.configMaps().inNamespace("default").withName("two").patch(
        PatchContext.of(PatchType.JSON_MERGE), "{\"data\":{\"x\":\"y\"}}");
    seen.add(events.poll(10, TimeUnit.SECONDS));
    client.configMaps().inNamespace("default").withName("two").delete();
    seen.add(events.poll(10, TimeUnit.SECONDS));
    show("events", seen);
    show("indexed", informer.getIndexer().list().size());
    informer.close();
  }

  static void deployment(KubernetesClient client) {
    Deployment wanted = new DeploymentBuilder().withNewMetadata().withName("web").withNamespace("default").endMetadata()
        .withNewSpec().withReplicas(2).withNewSelector().addToMatchLabels("app", "web").endSelector()
        .withNewTemplate().withNewMetadata().addToLabels("app", "web").endMetadata()
        .withNewSpec().addNewContainer().withName("main").withImage("busybox").endContainer().endSpec()
        .endTemplate().endSpec().build();
    client.resource(wanted).create();
    client.apps().deployments().inNamespace("default").withName("web")
        .waitUntilReady(20, TimeUnit.SECONDS);
    Deployment scaled = client.apps().deployments().inNamespace("default").withName("web").scale(3);
    show("replicas", scaled.getSpec().getReplicas());
    show("pods", client.pods().inNamespace("default").withLabel("app", "web").list().getItems().size() >= 2);
  }

  static void custom(KubernetesClient client) {
    CustomResourceDefinition crd = new CustomResourceDefinitionBuilder()
        .withNewMetadata().withName("widgets.clients.pilothouse.dev").endMetadata()
        .withNewSpec().withGroup("clients.pilothouse.dev").withScope("Namespaced")
        .withNewNames().withPlural("widgets").withSingular("widget").withKind("Widget").endNames()
        .addNewVersion().withName("v1").withServed(true).withStorage(true)
        .withNewSubresources().withNewStatus().endStatus().endSubresources()
        .withNewSchema().withNewOpenAPIV3Schema().withType("object")
        .withXKubernetesPreserveUnknownFields(true).endOpenAPIV3Schema().endSchema().endVersion()
        .endSpec().build();
    client.resource(crd).create();
    client.apiextensions().v1().customResourceDefinitions().withName("widgets.clients.pilothouse.dev")
        .waitUntilCondition(found -> found.getStatus() != null && found.getStatus().getConditions().stream()
            .anyMatch(c -> c.getType().equals("Established") && c.getStatus().equals("True")), 10, TimeUnit.SECONDS);
    Widget widget = new Widget();
    widget.getMetadata().setName("w");
    widget.getMetadata().setNamespace("default");
    widget.setSpec(new WidgetSpec());
    widget.getSpec().size = 7;
    widget = client.resource(widget).create();
    widget.setStatus(new WidgetStatus());
    widget.getStatus().phase = "fine";
    show("phase", client.resource(widget).updateStatus().getStatus().phase);
    GenericKubernetesResource generic = client.genericKubernetesResources("clients.pilothouse.dev/v1", "Widget")
        .inNamespace("default").withName("w").get();
    show("size", generic.<Integer>get("spec", "size"));
  }
}
