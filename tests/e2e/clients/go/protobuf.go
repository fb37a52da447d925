package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

const onlyProtobuf = "application/vnd.kubernetes.protobuf"

// protobufOnly: a client that takes no JSON. Its objects must be those that a JSON client sees.
func protobufOnly(ctx context.Context, config *rest.Config) (seen, error) {
	plain, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	binary := rest.CopyConfig(config)
	binary.ContentType, binary.AcceptContentTypes = onlyProtobuf, onlyProtobuf
	client, err := kubernetes.NewForConfig(binary)
	if err != nil {
		return nil, err
	}
	pods := client.CoreV1().Pods("default")
	watcher, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=binary"})
	if err != nil {
		return nil, err
	}
	defer watcher.Stop()
	grace := int64(0)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "binary", Annotations: map[string]string{"umlaut": "ä"}},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{
			{Name: "main", Image: "busybox", Ports: []corev1.ContainerPort{{ContainerPort: 80}}},
		}},
	}
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	err = eventually(ctx, "the pod runs", func() bool {
		pod, err = pods.Get(ctx, "binary", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning
	})
	if err != nil {
		return nil, err
	}
	event := <-watcher.ResultChan()
	same, err := plain.CoreV1().Pods("default").Get(ctx, "binary", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if pod, err = pods.Get(ctx, "binary", metav1.GetOptions{}); err != nil {
		return nil, err
	}
	_, missing := pods.Get(ctx, "nowhere", metav1.GetOptions{})
	roles, err := client.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{Limit: 5})
	if err != nil {
		return nil, err
	}
	small, err := metadata.NewForConfig(binary)
	if err != nil {
		return nil, err
	}
	flat, err := small.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return seen{
		"event": string(event.Type) + " " + event.Object.(*corev1.Pod).Name,
		"same":  equality.Semantic.DeepEqual(same, pod),
		"roles": len(roles.Items), "continues": roles.Continue != "", "rules": len(roles.Items[0].Rules) > 0,
		"missing": apierrors.IsNotFound(missing), "umlaut": flat.Items[0].Annotations["umlaut"],
		"fresh": time.Since(pod.CreationTimestamp.Time) < time.Minute,
	}, nil
}
