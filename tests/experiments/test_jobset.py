"""The Kubernetes manifests of the launch files, against the fields that their kinds have."""

import json
import math
import re
import shlex
import signal
import subprocess

import jsonschema
import pytest
import yaml

from gjax.train.config import experiments_dir
from tests.experiments.test_launch import LAUNCH, _load


def _object(required=(), **properties):
    return {'type': 'object', 'additionalProperties': False, 'required': list(required), 'properties': properties}


def _list(items):
    return {'type': 'array', 'items': items, 'minItems': 1}


TEXT, COUNT, FLAG = {'type': 'string', 'minLength': 1}, {'type': 'integer', 'minimum': 0}, {'type': 'boolean'}
TEXTS = {'type': 'object', 'additionalProperties': {'type': 'string'}}
METADATA = _object(name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
CONTAINER = _object(
    ('name', 'image', 'command'),
    name=TEXT,
    image=TEXT,
    command=_list(TEXT),
    args=_list(TEXT),
    env=_list(_object(('name', 'value'), name=TEXT, value=TEXT)),
    resources=_object(limits={'type': 'object', 'additionalProperties': COUNT}),
    volumeMounts=_list(_object(('name', 'mountPath'), name=TEXT, mountPath=TEXT)),
)
POD = _object(
    ('restartPolicy', 'containers'),
    restartPolicy={'const': 'Never'},  # a podFailurePolicy allows no other
    terminationGracePeriodSeconds={'type': 'integer', 'minimum': 60},
    serviceAccountName=TEXT,
    nodeSelector=TEXTS,
    containers=_list(CONTAINER),
    volumes=_list(
        _object(
            ('name',),
            name=TEXT,
            persistentVolumeClaim=_object(('claimName',), claimName=TEXT),
            emptyDir=_object((), medium={'const': 'Memory'}, sizeLimit=TEXT),
        )
    ),
)
POD_FAILURE = _object(
    ('action',),
    action={'enum': ['FailJob', 'FailIndex', 'Ignore', 'Count']},
    onExitCodes=_object(('operator', 'values'), containerName=TEXT, operator={'enum': ['In', 'NotIn']}, values=_list(COUNT)),
    onPodConditions=_list(_object(('type',), type=TEXT, status={'enum': ['True', 'False', 'Unknown']})),
)
JOB = _object(
    ('completions', 'parallelism', 'template'),
    completionMode={'const': 'Indexed'},
    completions=COUNT,
    parallelism=COUNT,
    backoffLimit={'const': 0},
    activeDeadlineSeconds=COUNT,
    podFailurePolicy=_object(('rules',), rules=_list(POD_FAILURE)),
    template=_object(('spec',), metadata=METADATA, spec=POD),
)
# The fields of the custom resource (jobset_types.go, v1alpha2) that a launcher could want.
JOBSET = _object(
    ('apiVersion', 'kind', 'metadata', 'spec'),
    apiVersion={'const': 'jobset.x-k8s.io/v1alpha2'},
    kind={'const': 'JobSet'},
    metadata=METADATA,
    spec=_object(
        ('replicatedJobs',),
        network=_object(enableDNSHostnames=FLAG, subdomain=TEXT, publishNotReadyAddresses=FLAG),
        suspend=FLAG,
        ttlSecondsAfterFinished=COUNT,
        failurePolicy=_object(
            maxRestarts=COUNT,
            restartStrategy={'enum': ['Recreate', 'BlockingRecreate']},
            rules=_list(
                _object(
                    ('name', 'action'),
                    name={'type': 'string', 'pattern': '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'},
                    action={'enum': ['FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts']},
                    onJobFailureReasons=_list({'enum': ['BackoffLimitExceeded', 'DeadlineExceeded', 'PodFailurePolicy']}),
                    targetReplicatedJobs=_list(TEXT),
                )
            ),
        ),
        replicatedJobs=_list(
            _object(
                ('name', 'template'),
                name=TEXT,
                replicas=COUNT,
                template=_object(('spec',), metadata=METADATA, spec=JOB),
            )
        ),
    ),
)


def _documents(variant):
    """The manifest's documents by kind; for GPU nodes through the sed command that its comment gives."""
    text = (LAUNCH / 'jobset.yaml').read_text()
    if variant == 'gpu':
        (command,) = re.findall(r'^#   (sed .*) \| kubectl', text, re.M)
        command = shlex.split(command)
        text = subprocess.check_output(command, text=True, cwd=experiments_dir().parent)
    return {document['kind']: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize('variant', ['tpu', 'gpu'])
def test_jobset(variant):
    documents = _documents(variant)
    jobset = documents['JobSet']
    jsonschema.Draft202012Validator(JOBSET).validate(jobset)
    assert 'gpu:' not in json.dumps(jobset)
    (job,) = (replicated['template']['spec'] for replicated in jobset['spec']['replicatedJobs'])
    pod = job['template']['spec']
    (container,) = pod['containers']
    assert job['completions'] == job['parallelism']

    # A saved run goes on however often; a failing one a few times.
    assert job['podFailurePolicy']['rules'][0]['onExitCodes']['values'] == [128 + signal.SIGTERM]
    assert jobset['spec']['failurePolicy']['rules'][0]['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
    assert 0 < jobset['spec']['failurePolicy']['maxRestarts'] < 100

    command = container['command']
    _load(command)
    workdir = next(word.partition('=')[2] for word in command if word.startswith('--workdir='))
    mounts = {mount['name']: mount for mount in container['volumeMounts']}
    volumes = {volume['name']: volume for volume in pod['volumes']}
    assert mounts.keys() == volumes.keys() == {'runs', 'shared-memory'}
    assert mounts['shared-memory']['mountPath'] == '/dev/shm'
    mount, volume = mounts['runs'], volumes['runs']
    claim = documents['PersistentVolumeClaim']
    assert workdir.startswith(mount['mountPath'] + '/')
    assert mount['name'] == volume['name']
    assert volume['persistentVolumeClaim']['claimName'] == claim['metadata']['name']
    assert claim['spec']['accessModes'] == ['ReadWriteMany']

    limits, selector = container['resources']['limits'], pod['nodeSelector']
    if variant == 'tpu':
        assert documents.keys() == {'PersistentVolumeClaim', 'JobSet'}
        assert selector['cloud.google.com/gke-tpu-accelerator'] == 'tpu-v5-lite-podslice'
        chips = math.prod(int(side) for side in selector['cloud.google.com/gke-tpu-topology'].split('x'))
        assert chips == limits['google.com/tpu'] * job['completions']
        assert list(limits) == ['google.com/tpu']
    else:
        assert list(selector) == ['cloud.google.com/gke-accelerator']
        assert list(limits) == ['nvidia.com/gpu']


def test_gpu_pods_may_ask_what_jax_asks():
    """jax/_src/clusters/k8s_cluster.py finds its own pod among all, and reads its job."""
    documents = _documents('gpu')
    account = documents['ServiceAccount']['metadata']['name']
    role, binding = documents['Role'], documents['RoleBinding']
    granted = [(*rule['apiGroups'], *rule['resources'], *rule['verbs']) for rule in role['rules']]
    assert granted == [('', 'pods', 'list'), ('batch', 'jobs', 'get')]
    group = role['apiVersion'].partition('/')[0]
    assert binding['roleRef'] == {'apiGroup': group, 'kind': 'Role', 'name': role['metadata']['name']}
    assert binding['subjects'] == [{'kind': 'ServiceAccount', 'name': account}]
    (job,) = documents['JobSet']['spec']['replicatedJobs']
    assert job['template']['spec']['template']['spec']['serviceAccountName'] == account
