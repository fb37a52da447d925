// Command samples prints objects as Go encodes them, in protobuf (with the envelope, base64) and
// in JSON: the test data of tests/apiserver/codec/test_protobuf.py.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

type sample struct {
	Name     string          `json:"name"`
	Protobuf string          `json:"protobuf"`
	JSON     json.RawMessage `json:"json"`
}

func ptr[T any](value T) *T { return &value }

var when = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
var micro = metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC))

func objects() map[string]runtime.Object {
	meta := metav1.ObjectMeta{Name: "a", Namespace: "ns", Labels: map[string]string{"b": "2", "a": "1"}}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "c", Image: "i", Args: []string{"", "x"},
				Ports: []corev1.ContainerPort{{ContainerPort: 80}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
					"cpu": resource.MustParse("500m"), "memory": resource.MustParse("1Gi")}},
				LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}}},
			}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("1.5Gi"))}}}},
			SecurityContext: &corev1.PodSecurityContext{RunAsUser: ptr(int64(-1)),
				SupplementalGroups: []int64{1, 1 << 40}},
		},
	}
	withTime := meta
	withTime.CreationTimestamp, withTime.DeletionTimestamp = when, &when
	withTime.DeletionGracePeriodSeconds = ptr(int64(0))
	withTime.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", Operation: "Apply", Time: &when,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}
	return map[string]runtime.Object{
		"pod":        &corev1.Pod{ObjectMeta: withTime, Spec: template.Spec},
		"empty-pod":  &corev1.Pod{},
		"deployment": &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: ptr(int32(0)), Template: template}},
		"service": &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080), NodePort: 30000}}}},
		"secret": &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"b": {0, 255}, "a": {}},
			Immutable: ptr(false)},
		"controller-revision": &appsv1.ControllerRevision{ObjectMeta: meta, Revision: 7,
			Data: runtime.RawExtension{Raw: []byte(`{"spec":{"x":[1,null]}}`)}},
		"event": &eventsv1.Event{ObjectMeta: meta, EventTime: micro, Action: "Added",
			Series: &eventsv1.EventSeries{Count: 3, LastObservedTime: micro}},
		"lease":           &coordinationv1.Lease{ObjectMeta: meta, Spec: coordinationv1.LeaseSpec{RenewTime: &micro}},
		"scale":           &autoscalingv1.Scale{ObjectMeta: meta, Spec: autoscalingv1.ScaleSpec{Replicas: 3}},
		"binding":         &corev1.Binding{ObjectMeta: meta, Target: corev1.ObjectReference{Kind: "Node", Name: "n"}},
		"eviction":        &policyv1.Eviction{ObjectMeta: meta, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(5))}},
		"delete-options":  &metav1.DeleteOptions{PropagationPolicy: ptr(metav1.DeletePropagationForeground), Preconditions: &metav1.Preconditions{UID: ptr(meta.UID)}},
		"status":          &metav1.Status{Status: "Failure", Code: 404, Reason: "NotFound", Details: &metav1.StatusDetails{Name: "x", Causes: []metav1.StatusCause{{Field: "f"}}}},
		"token-request":   &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"api"}, ExpirationSeconds: ptr(int64(600))}},
		"token-review":    &authenticationv1.TokenReview{Status: authenticationv1.TokenReviewStatus{User: authenticationv1.UserInfo{Extra: map[string]authenticationv1.ExtraValue{"k": {"1", "2"}, "empty": {}}}}},
		"self-access":     &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}}},
		"self-rules":      &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "ns"}},
		"signing-request": &certificatesv1.CertificateSigningRequest{ObjectMeta: meta, Spec: certificatesv1.CertificateSigningRequestSpec{Request: []byte("pem"), Usages: []certificatesv1.KeyUsage{"client auth"}}},
		"disruption-budget": &policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr(intstr.FromString("50%"))},
			Status: policyv1.PodDisruptionBudgetStatus{DisruptedPods: map[string]metav1.Time{"p": when}}},
		"webhook": &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: meta, Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "w", ClientConfig: admissionv1.WebhookClientConfig{CABundle: []byte("ca")},
			Rules: []admissionv1.RuleWithOperations{{Operations: []admissionv1.OperationType{"CREATE"},
				Rule: admissionv1.Rule{APIGroups: []string{""}, Resources: []string{"pods"}}}}}}},
		"api-service":                &apiregistrationv1.APIService{ObjectMeta: meta, Spec: apiregistrationv1.APIServiceSpec{Group: "g", Version: "v1", GroupPriorityMinimum: 100, Service: &apiregistrationv1.ServiceReference{Name: "s", Port: ptr(int32(443))}}},
		"custom-resource-definition": customResourceDefinition(meta),
	}
}

func customResourceDefinition(meta metav1.ObjectMeta) runtime.Object {
	text := apiextensionsv1.JSONSchemaProps{Type: "string", Default: &apiextensionsv1.JSON{Raw: []byte(`"x"`)},
		Enum: []apiextensionsv1.JSON{{Raw: []byte(`"x"`)}, {Raw: []byte(`1`)}}, MaxLength: ptr(int64(3))}
	number := apiextensionsv1.JSONSchemaProps{Type: "number", Minimum: ptr(1.5), Maximum: ptr(float64(3))}
	return &apiextensionsv1.CustomResourceDefinition{ObjectMeta: meta, Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "example.com", Scope: "Namespaced",
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "foos", Kind: "Foo"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{
					"text": text, "number": number,
					"list": {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &text}},
					"map":  {Type: "object", AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true, Schema: &number}},
					"free": {Type: "object", AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Allows: true}},
				}}}}},
	}}
}

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionv1.AddToScheme, appsv1.AddToScheme, authenticationv1.AddToScheme, authorizationv1.AddToScheme,
		autoscalingv1.AddToScheme, certificatesv1.AddToScheme, coordinationv1.AddToScheme, corev1.AddToScheme,
		eventsv1.AddToScheme, policyv1.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme,
	} {
		check(add(scheme))
	}
	serializer := protobuf.NewSerializer(scheme, scheme)
	samples := []sample{}
	all := objects()
	for _, name := range sorted(all) {
		object := all[name]
		kinds, _, err := scheme.ObjectKinds(object)
		check(err)
		kind := kinds[0]
		if name == "delete-options" || name == "status" {
			kind = schema.GroupVersionKind{Version: "v1", Kind: kind.Kind}
		}
		object.GetObjectKind().SetGroupVersionKind(kind)
		var buffer bytes.Buffer
		check(serializer.Encode(object, &buffer))
		text, err := json.Marshal(object)
		check(err)
		samples = append(samples, sample{name, base64.StdEncoding.EncodeToString(buffer.Bytes()), text})
	}
	fmt.Println("[")
	for i, each := range samples {
		text, err := json.Marshal(each)
		check(err)
		end := ","
		if i == len(samples)-1 {
			end = ""
		}
		fmt.Printf("%s%s\n", text, end)
	}
	fmt.Println("]")
}
