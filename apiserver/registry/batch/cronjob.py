"""CronJobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.batch.defaults import set_cron_job_defaults
from pilothouse.apis.batch.validation_cronjob import validate_cron_job
from pilothouse.apis.core.warnings_pod import pod_template_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, pod_name_warning

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class CronJobStrategy(BuiltInStrategy):
    resource = GroupResource("batch", "cronjobs")

    def default(self, obj: Obj) -> None:
        set_cron_job_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_cron_job(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_cron_job(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        warnings = pod_name_warning(obj, "Pod names and hostnames")
        return warnings + pod_template_warnings(obj, "spec.jobTemplate.spec.template")


STRATEGY = CronJobStrategy()
