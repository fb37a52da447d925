package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const finalizer = "clients.pilothouse.dev/mirror"

// mirror keeps a Secret beside each ConfigMap that asks for one.
type mirror struct{ client.Client }

func (m *mirror) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var source corev1.ConfigMap
	if err := m.Get(ctx, request.NamespacedName, &source); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if source.Labels["mirror"] != "yes" {
		return ctrl.Result{}, nil
	}
	if !source.DeletionTimestamp.IsZero() {
		if controllerutil.RemoveFinalizer(&source, finalizer) {
			return ctrl.Result{}, m.Update(ctx, &source)
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(&source, finalizer) {
		return ctrl.Result{}, m.Update(ctx, &source)
	}
	copied := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: source.Name, Namespace: source.Namespace}}
	result, err := controllerutil.CreateOrUpdate(ctx, m.Client, copied, func() error {
		copied.StringData = source.Data
		return controllerutil.SetControllerReference(&source, copied, m.Scheme())
	})
	if err != nil || result == controllerutil.OperationResultNone {
		return ctrl.Result{}, err
	}
	before := source.DeepCopy()
	metav1.SetMetaDataAnnotation(&source.ObjectMeta, "mirrored", string(result))
	return ctrl.Result{}, m.Patch(ctx, &source, client.MergeFrom(before))
}

func runManager(ctx context.Context, config *rest.Config) (seen, error) {
	log.SetLogger(logr.Discard())
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: clientgoscheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: "mirror", LeaderElectionNamespace: "default",
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, err
	}
	index := func(obj client.Object) []string { return []string{obj.GetLabels()["mirror"]} }
	if err := manager.GetFieldIndexer().IndexField(ctx, &corev1.ConfigMap{}, "mirror", index); err != nil {
		return nil, err
	}
	err = ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Owns(&corev1.Secret{}).
		Complete(&mirror{manager.GetClient()})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- manager.Start(running) }()
	defer stop()
	if !manager.GetCache().WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("the cache has not synced")
	}
	found, err := mirrorStory(ctx, manager.GetClient())
	if err != nil {
		return nil, err
	}
	stop()
	select {
	case err = <-ended:
	case <-time.After(10 * time.Second):
		err = fmt.Errorf("the manager does not end")
	}
	return found, err
}

func mirrorStory(ctx context.Context, c client.Client) (seen, error) {
	source := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "source", Namespace: "default", Labels: map[string]string{"mirror": "yes"}},
		Data:       map[string]string{"key": "value"},
	}
	key := client.ObjectKeyFromObject(source)
	if err := c.Create(ctx, source); err != nil {
		return nil, err
	}
	var secret corev1.Secret
	err := eventually(ctx, "the mirror", func() bool {
		return c.Get(ctx, key, &secret) == nil && string(secret.Data["key"]) == "value"
	})
	if err != nil {
		return nil, err
	}
	owner := metav1.GetControllerOf(&secret)
	if err := c.Delete(ctx, &secret); err != nil {
		return nil, err
	}
	first := secret.UID
	err = eventually(ctx, "the mirror is back", func() bool {
		return c.Get(ctx, key, &secret) == nil && secret.UID != first
	})
	if err != nil {
		return nil, err
	}
	var chosen corev1.ConfigMapList
	if err := c.List(ctx, &chosen, client.MatchingFields{"mirror": "yes"}); err != nil {
		return nil, err
	}
	if err := c.Delete(ctx, source); err != nil {
		return nil, err
	}
	err = eventually(ctx, "source and mirror are gone", func() bool {
		return apierrors.IsNotFound(c.Get(ctx, key, source)) && apierrors.IsNotFound(c.Get(ctx, key, &secret))
	})
	return seen{"owner": owner.Kind + "/" + owner.Name, "indexed": len(chosen.Items)}, err
}
