package main

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// runEnvtest starts a control plane of its own from $KUBEBUILDER_ASSETS, as operators' tests do.
// Its API server is started a second time, on the same etcd.
func runEnvtest(ctx context.Context, _ *rest.Config) (seen, error) {
	environment := &envtest.Environment{}
	config, err := environment.Start()
	if err != nil {
		return nil, err
	}
	result, err := useEnvtest(ctx, environment, config)
	return result, errors.Join(err, environment.Stop())
}

func useEnvtest(ctx context.Context, environment *envtest.Environment, config *rest.Config) (seen, error) {
	api, err := client.New(config, client.Options{})
	if err != nil {
		return nil, err
	}
	made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kept"}}
	if err := api.Create(ctx, made); err != nil {
		return nil, err
	}
	user, err := environment.AddUser(envtest.User{Name: "somebody"}, nil)
	if err != nil {
		return nil, err
	}
	other, err := client.New(user.Config(), client.Options{})
	if err != nil {
		return nil, err
	}
	refused := other.Get(ctx, client.ObjectKeyFromObject(made), &corev1.ConfigMap{})
	server := environment.ControlPlane.GetAPIServer()
	if err := server.Stop(); err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	// It has another certificate and another port now.
	user, err = environment.AddUser(envtest.User{Name: "root", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, err
	}
	again, err := client.New(user.Config(), client.Options{})
	if err != nil {
		return nil, err
	}
	found := &corev1.ConfigMap{}
	err = again.Get(ctx, client.ObjectKeyFromObject(made), found)
	return seen{
		"forbidden": apierrors.IsForbidden(refused),
		"kept":      err == nil && found.UID == made.UID,
	}, err
}
