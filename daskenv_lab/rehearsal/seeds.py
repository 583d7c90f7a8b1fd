"""What a new account holds: a user, long ARNs, a default network, and ECS instances."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from moto.ec2.models import EC2Backend
from moto.ecs.models import EC2ContainerServiceBackend

from daskenv_lab.rehearsal.addresses import PRIVATE
from daskenv_lab.rehearsal.place import USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.rehearsal.cloud import Cloud

INSTANCES_CLUSTER = "rehearsal-ec2"
"""The name of the ECS cluster that has container instances."""

_LONG_ARNS = ("taskLongArnFormat", "containerInstanceLongArnFormat", "serviceLongArnFormat")

# Two machines without GPUs and one with four: 8 vCPU and 32 GB each.
_MACHINES = (("m5.2xlarge", 0), ("m5.2xlarge", 0), ("g4dn.12xlarge", 4))
_CPU, _MEMORY = 8192, 31_000


def seed(cloud: Cloud, key_id: str) -> None:
    """Fill a new account, whose one access key has this number."""
    # Set before its first use, so that the default network has addresses of this machine.
    EC2Backend.create_default_vpc = _default_vpc
    EC2ContainerServiceBackend.create_cluster = _same_cluster(
        EC2ContainerServiceBackend.create_cluster
    )
    with cloud.lock:
        for name in _LONG_ARNS:
            cloud.ecs.put_account_setting(name, "enabled")
        vpc = cloud.ec2.default_vpc
        vpc.enable_dns_hostnames = True
        _route_to_internet(cloud, vpc)
        _open_default_group(cloud, vpc)
        _instances(cloud)
        # STS looks here for whose key it is.
        cloud.iam.create_user(cloud.region, USER)
        cloud.iam.create_access_key(USER).access_key_id = key_id


def _default_vpc(backend: Any) -> Any:
    vpc = backend.create_vpc(cidr_block=str(PRIVATE), is_default=True)
    for zone in backend.describe_availability_zones():
        backend.create_default_subnet(zone.name)
    return vpc


def _route_to_internet(cloud: Cloud, vpc: Any) -> None:
    gateway = cloud.ec2.create_internet_gateway()
    cloud.ec2.attach_internet_gateway(gateway.id, vpc.id)
    [main] = [
        table
        for table in cloud.ec2.route_tables.values()
        if table.vpc_id == vpc.id and table.main_association_id is not None
    ]
    cloud.ec2.create_route(main.id, "0.0.0.0/0", gateway_id=gateway.id)


def _open_default_group(cloud: Cloud, vpc: Any) -> None:
    """Let the members of the default group reach each other, as on AWS."""
    group = cloud.ec2.get_default_security_group(vpc.id)
    cloud.ec2.authorize_security_group_ingress(
        group_name_or_id=group.id,
        ip_protocol="-1",
        from_port=None,
        to_port=None,
        ip_ranges=[],
        source_groups=[{"GroupId": group.id}],
    )


def _same_cluster(create: Callable[..., Any]) -> Callable[..., Any]:
    """Give the cluster of that name if there is one, as AWS does; moto would replace it."""

    @functools.wraps(create)
    def created(backend: Any, cluster_name: str, *args: Any, **kwargs: Any) -> Any:
        found = backend.clusters.get(cluster_name)
        if found is not None and found.status == "ACTIVE":
            return found
        made = create(backend, cluster_name, *args, **kwargs)
        # moto tells of no tags where AWS tells of an empty list.
        made.tags = made.tags or []
        return made

    return created


def _instances(cloud: Cloud) -> None:
    cloud.ecs.create_cluster(INSTANCES_CLUSTER)
    image = cloud.ec2.register_image(name="rehearsal").id
    for kind, gpus in _MACHINES:
        made = cloud.ec2.run_instances(
            image_id=image,
            count=1,
            user_data=None,
            security_group_names=[],
            instance_type=kind,
            is_instance_type_default=False,
            placement=None,
            region_name=cloud.region,
            subnet_id=None,
            owner_id=None,
            key_name=None,
            security_group_ids=[],
            private_ip=None,
            associate_public_ip=None,
            tags={},
            ebs_optimized=False,
            instance_market_options=None,
            disable_api_termination=False,
            instance_initiated_shutdown_behavior="stop",
            nics=[],
            private_ip_dns_name_options={},
            iam_instance_profile_name=None,
            iam_instance_profile_arn=None,
            metadata_options={},
        )
        registered = cloud.ecs.register_container_instance(INSTANCES_CLUSTER, made.instances[0].id)
        for resources in (registered.registered_resources, registered.remaining_resources):
            _equip(resources, gpus)


def _equip(resources: list[dict[str, Any]], gpus: int) -> None:
    for resource in resources:
        if resource["name"] == "CPU":
            resource["integerValue"] = _CPU
        elif resource["name"] == "MEMORY":
            resource["integerValue"] = _MEMORY
    resources.append(
        {
            "doubleValue": 0.0,
            "integerValue": 0,
            "longValue": 0,
            "name": "GPU",
            "stringSetValue": [f"GPU-{number:08x}" for number in range(gpus)],
            "type": "STRINGSET",
        }
    )
