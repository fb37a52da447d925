package main

import (
	"context"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// dynamicClient: a CRD, its objects without types, and the mapper over discovery.
func dynamicClient(ctx context.Context, config *rest.Config) (seen, error) {
	extensions, err := extensionsclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	crd := widgets()
	if _, err := extensions.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	err = eventually(ctx, "the CRD is established", func() bool {
		found, err := extensions.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, crd.Name, metav1.GetOptions{})
		for _, condition := range found.Status.Conditions {
			if condition.Type == apiextensions.Established && condition.Status == apiextensions.ConditionTrue {
				return err == nil
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	mapping, err := mapper.RESTMapping(schema.GroupKind{Group: "clients.pilothouse.dev", Kind: "Widget"}, "v1")
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	resources := client.Resource(mapping.Resource).Namespace("default")
	widget := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "clients.pilothouse.dev/v1", "kind": "Widget",
		"metadata": map[string]any{"name": "one"}, "spec": map[string]any{"size": int64(3), "unknown": true},
	}}
	made, err := resources.Create(ctx, widget, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	_, kept, _ := unstructured.NestedBool(made.Object, "spec", "unknown")
	color, _, _ := unstructured.NestedString(made.Object, "spec", "color")
	unstructured.SetNestedField(made.Object, "fine", "status", "phase")
	if made, err = resources.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	phase, _, _ := unstructured.NestedString(made.Object, "status", "phase")
	unstructured.SetNestedField(made.Object, int64(-1), "spec", "size")
	_, refused := resources.Update(ctx, made, metav1.UpdateOptions{})
	reason := "accepted"
	if refused != nil {
		reason = refused.Error()
	}
	return seen{
		"resource": mapping.Resource.Resource, "color": color, "kept": kept, "phase": phase, "refused": reason,
	}, nil
}

func widgets() *apiextensions.CustomResourceDefinition {
	minimum := 0.0
	blue := apiextensions.JSON{Raw: []byte(`"blue"`)}
	object := func(properties map[string]apiextensions.JSONSchemaProps) apiextensions.JSONSchemaProps {
		return apiextensions.JSONSchemaProps{Type: "object", Properties: properties}
	}
	root := object(map[string]apiextensions.JSONSchemaProps{
		"spec": object(map[string]apiextensions.JSONSchemaProps{
			"size": {Type: "integer", Minimum: &minimum}, "color": {Type: "string", Default: &blue},
		}),
		"status": object(map[string]apiextensions.JSONSchemaProps{"phase": {Type: "string"}}),
	})
	return &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.clients.pilothouse.dev"},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: "clients.pilothouse.dev", Scope: apiextensions.NamespaceScoped,
			Names: apiextensions.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema:       &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &root},
				Subresources: &apiextensions.CustomResourceSubresources{Status: &apiextensions.CustomResourceSubresourceStatus{}},
			}},
		},
	}
}

// election: two candidates, the second takes over when the first lets go.
func election(ctx context.Context, config *rest.Config) (seen, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	leaders := make(chan string, 2)
	candidate := func(ctx context.Context, name string) {
		lock, err := resourcelock.New(resourcelock.LeasesResourceLock, "default", "election",
			client.CoreV1(), client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: name})
		if err != nil {
			return
		}
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second,
			RetryPeriod: 200 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leaders <- name }, OnStoppedLeading: func() {},
			},
		})
	}
	first, resign := context.WithCancel(ctx)
	defer resign()
	go candidate(first, "one")
	order := []string{<-leaders}
	go candidate(ctx, "two")
	resign()
	select {
	case next := <-leaders:
		order = append(order, next)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return seen{"leaders": order}, nil
}
