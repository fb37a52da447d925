"""The second part of the table of controllers: storage, devices, addresses, tokens."""

from __future__ import annotations

from pilothouse.controllermanager.entry import Entry

WITHOUT_WORK = {
    "persistentvolume-attach-detach-controller": "attachdetach",
    "selinux-warning-controller": "selinux-warning",
    "storageversion-garbage-collector-controller": "storageversion-garbage-collector",
    "podgroup-protection-controller": "podgroup-protection-controller",
    "resourcepoolstatusrequest-controller": "resourcepoolstatusrequest-controller",
}
"""Upstream's controllers that have nothing to do here (no CSI, no SELinux) or are behind feature
gates that are off: ``--controllers`` may name them; with their older names."""
STORAGE_AND_MORE = (
    Entry(
        "persistentvolume-binder-controller",
        "persistent_volume.binder",
        "PersistentVolumeBinder",
        lambda c: {"resync": c.pvclaimbinder_sync_period},
        ("persistentvolume-binder",),
        account="persistent-volume-binder",
    ),
    Entry(
        "local-path-provisioner-controller",
        "persistent_volume.local_path",
        "LocalPathProvisioner",
        lambda c: {"root": c.local_path_root},
        wanted=lambda c: bool(c.local_path_root),
        account="persistent-volume-binder",
    ),
    Entry(
        "persistentvolume-expander-controller",
        "persistent_volume.expand",
        "VolumeExpander",
        lambda c: {},
        ("persistentvolume-expander",),
        account="expand-controller",
    ),
    Entry(
        "ephemeral-volume-controller",
        "persistent_volume.ephemeral",
        "EphemeralVolumeController",
        lambda c: {"workers": c.concurrent_ephemeralvolume_syncs},
        ("ephemeral-volume",),
    ),
    Entry("ttl-controller", "ttl", "TTLController", lambda c: {}, ("ttl",)),
    Entry(
        "service-cidr-controller",
        "service_cidr",
        "ServiceCIDRController",
        lambda c: {"workers": c.concurrent_service_cidr_syncs},
        account="service-cidrs-controller",
    ),
    Entry(
        "storage-version-migrator-controller",
        "storage_version_migrator",
        "StorageVersionMigrator",
        lambda c: {},
    ),
    Entry(
        "serviceaccount-token-controller",
        "serviceaccount_tokens",
        "ServiceAccountTokenController",
        lambda c: {
            "key_file": c.service_account_private_key_file,
            "root_ca": c.root_ca,
            "workers": c.concurrent_serviceaccount_token_syncs,
        },
        ("serviceaccount-token",),
        lambda c: bool(c.service_account_private_key_file),
        own_account=False,
    ),
    Entry(
        "legacy-serviceaccount-token-cleaner-controller",
        "legacy_token_cleaner",
        "LegacyTokenCleaner",
        lambda c: {"unused_for": c.legacy_service_account_token_clean_up_period},
        ("legacy-service-account-token-cleaner",),
        account="legacy-service-account-token-cleaner",
    ),
    Entry(
        "podcertificaterequest-cleaner-controller",
        "pod_certificate_cleaner",
        "PodCertificateCleaner",
        lambda c: {},
        account="podcertificaterequestcleaner",
    ),
    Entry(
        "resourceclaim-controller",
        "resource_claim",
        "ResourceClaimController",
        lambda c: {"workers": c.concurrent_resource_claim_syncs},
        ("resource-claim-controller",),
        account="resource-claim-controller",
    ),
    Entry(
        "device-taint-eviction-controller",
        "device_taint_eviction",
        "DeviceTaintEvictionController",
        lambda c: {"workers": c.concurrent_device_taint_eviction_syncs},
    ),
    Entry(
        "node-ipam-controller",
        "node_ipam",
        "NodeIpamController",
        lambda c: {
            "cluster_cidr": c.cluster_cidr,
            "mask_size": c.node_cidr_mask_size,
            "service_cidr": c.service_cluster_ip_range,
        },
        ("nodeipam",),
        lambda c: c.allocate_node_cidrs,
        account="node-controller",
    ),
)
