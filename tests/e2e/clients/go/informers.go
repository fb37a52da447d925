package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	coreinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// informers: a factory over typed objects, one over metadata only, and a plain retrying watch.
func informers(ctx context.Context, config *rest.Config) (seen, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	maps := client.CoreV1().ConfigMaps("default")
	for n := range 20 {
		if _, err := maps.Create(ctx, configMap(n), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	var lock sync.Mutex
	events := map[string]int{}
	count := func(kind string) {
		lock.Lock()
		defer lock.Unlock()
		events[kind]++
	}
	factory := coreinformers.NewSharedInformerFactoryWithOptions(client, time.Minute,
		coreinformers.WithNamespace("default"),
		coreinformers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = "story=informers" }))
	informer := factory.Core().V1().ConfigMaps().Informer()
	err = informer.AddIndexers(cache.Indexers{"parity": func(obj any) ([]string, error) {
		return []string{obj.(*corev1.ConfigMap).Data["parity"]}, nil
	}})
	if err != nil {
		return nil, err
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { count("add") },
		UpdateFunc: func(any, any) { count("update") },
		DeleteFunc: func(any) { count("delete") },
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("%v has not synced", kind)
		}
	}
	even, err := informer.GetIndexer().ByIndex("parity", "even")
	if err != nil {
		return nil, err
	}
	small, err := metadataOnly(ctx, config)
	if err != nil {
		return nil, err
	}
	changed := configMap(0)
	changed.Data["more"] = "yes"
	if _, err := maps.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	hidden := configMap(1)
	hidden.Labels = nil // leaves the selection: a delete to the informer
	if _, err := maps.Update(ctx, hidden, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	if err := maps.Delete(ctx, "informed-2", metav1.DeleteOptions{}); err != nil {
		return nil, err
	}
	err = eventually(ctx, fmt.Sprintf("2 deletes, an update: %v", events), func() bool {
		lock.Lock()
		defer lock.Unlock()
		return events["delete"] == 2 && events["update"] >= 1
	})
	if err != nil {
		return nil, err
	}
	kinds, err := retried(ctx, client)
	lock.Lock()
	defer lock.Unlock()
	return seen{
		"events": events, "even": len(even), "metadata": small, "kinds": kinds,
		"left": len(informer.GetStore().ListKeys()),
	}, err
}

func configMap(n int) *corev1.ConfigMap {
	parity := []string{"even", "odd"}[n%2]
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("informed-%d", n), Namespace: "default", Labels: map[string]string{"story": "informers"},
		},
		Data: map[string]string{"parity": parity},
	}
}

func metadataOnly(ctx context.Context, config *rest.Config) (int, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	factory := metadatainformer.NewFilteredSharedInformerFactory(client, 0, "default",
		func(o *metav1.ListOptions) { o.LabelSelector = "story=informers" })
	informer := factory.ForResource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return 0, fmt.Errorf("metadata has not synced")
	}
	for _, obj := range informer.GetStore().List() {
		if obj.(*metav1.PartialObjectMetadata).UID == "" {
			return 0, fmt.Errorf("no uid in %v", obj)
		}
	}
	return len(informer.GetStore().List()), nil
}

// retried: list, then watch from there with the watcher that reconnects.
func retried(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	secrets := client.CoreV1().Secrets("default")
	list, err := secrets.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion,
		cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "secrets", "default",
			func(*metav1.ListOptions) {}))
	if err != nil {
		return nil, err
	}
	defer watcher.Stop()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "watched"}, StringData: map[string]string{"k": "v"}}
	if _, err := secrets.Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if err := secrets.Delete(ctx, "watched", metav1.DeleteOptions{}); err != nil {
		return nil, err
	}
	var kinds []string
	for len(kinds) < 2 {
		select {
		case event := <-watcher.ResultChan():
			kinds = append(kinds, string(event.Type))
		case <-ctx.Done():
			return kinds, ctx.Err()
		}
	}
	return kinds, nil
}
