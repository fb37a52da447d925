package main

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

// typed: the clientset speaks protobuf, as kube's own components do.
func typed(ctx context.Context, config *rest.Config) (seen, error) {
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return nil, err
	}
	maps := client.CoreV1().ConfigMaps("default")
	made, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "typed-", Labels: map[string]string{"story": "typed"}},
		Data:       map[string]string{"a": "1"}, BinaryData: map[string][]byte{"b": {0, 255}},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	stale := made.DeepCopy()
	made.Data["a"] = "2"
	if made, err = maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	_, conflict := maps.Update(ctx, stale, metav1.UpdateOptions{})
	_, missing := maps.Get(ctx, "nowhere", metav1.GetOptions{})
	_, exists := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: made.Name}}, metav1.CreateOptions{})
	_, invalid := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "A_b"}}, metav1.CreateOptions{})
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := maps.Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Data["c"] = "3"
		made, err = maps.Update(ctx, current, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	patch, _ := json.Marshal(map[string]any{"data": map[string]any{"a": nil}})
	if made, err = maps.Patch(ctx, made.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return nil, err
	}
	replicas, fields, err := applied(ctx, client)
	if err != nil {
		return nil, err
	}
	blocked, err := evicted(ctx, client)
	if err != nil {
		return nil, err
	}
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "story=typed", Limit: 1})
	if err != nil {
		return nil, err
	}
	err = maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "story=typed"})
	if err != nil {
		return nil, err
	}
	after, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "story=typed"})
	return seen{
		"version": version.Minor, "data": made.Data, "binary": made.BinaryData["b"],
		"conflict": apierrors.IsConflict(conflict), "missing": apierrors.IsNotFound(missing),
		"exists": apierrors.IsAlreadyExists(exists), "invalid": apierrors.IsInvalid(invalid),
		"replicas": replicas, "managers": fields, "blocked": blocked, "listed": len(list.Items), "after": len(after.Items),
	}, err
}

func applied(ctx context.Context, client kubernetes.Interface) (int32, []string, error) {
	labels := map[string]string{"app": "applied"}
	pod := coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().WithContainers(
		coreapply.Container().WithName("main").WithImage("busybox")))
	deployment := appsapply.Deployment("applied", "default").WithSpec(appsapply.DeploymentSpec().
		WithReplicas(2).WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).WithTemplate(pod))
	deployments := client.AppsV1().Deployments("default")
	if _, err := deployments.Apply(ctx, deployment, metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		return 0, nil, err
	}
	deployment.Spec.WithReplicas(3)
	_, err := deployments.Apply(ctx, deployment, metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) {
		return 0, nil, fmt.Errorf("no conflict but %w", err)
	}
	var last *appsv1.Deployment
	last, err = deployments.Apply(ctx, deployment, metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil {
		return 0, nil, err
	}
	scale, err := deployments.GetScale(ctx, "applied", metav1.GetOptions{})
	if err != nil {
		return 0, nil, err
	}
	var managers []string
	for _, entry := range last.ManagedFields {
		if entry.Operation == metav1.ManagedFieldsOperationApply {
			managers = append(managers, entry.Manager)
		}
	}
	return scale.Spec.Replicas, managers, nil
}

// evicted: a budget of its own keeps the pod.
func evicted(ctx context.Context, client kubernetes.Interface) (bool, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kept", Labels: map[string]string{"app": "kept"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
	}
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return false, err
	}
	least := intstr.FromInt32(1)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "kept"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
		},
	}
	if _, err := client.PolicyV1().PodDisruptionBudgets("default").Create(ctx, budget, metav1.CreateOptions{}); err != nil {
		return false, err
	}
	err := eventually(ctx, "the budget counts a healthy pod", func() bool {
		found, err := client.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "kept", metav1.GetOptions{})
		return err == nil && found.Status.CurrentHealthy == 1
	})
	if err != nil {
		return false, err
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	err = client.CoreV1().Pods("default").EvictV1(ctx, eviction)
	return apierrors.IsTooManyRequests(err), nil
}
