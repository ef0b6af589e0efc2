"""``bids_interp_tools hpc``: from a dataset to scripts on disk, and to a scheduler."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.bids.read.query import collect
from bids_interp.cli.tools.command import tools
from bids_interp.cli.tools.job_options import read_app_options
from bids_interp.errors import UsageError
from bids_interp.hpc.estimate import (
    BENCH_VOXELS,
    LEAST_MINUTES,
    estimate_group,
    estimate_participant,
    image_shapes,
)
from bids_interp.settings import Settings

NAMES = (
    'sub-01_T1w.nii.gz',
    'sub-02_T1w.nii.gz',
    'sub-03_ses-a_T1w.nii.gz',
    'sub-03_ses-b_T1w.nii.gz',
)


@pytest.fixture
def dataset(skeletons, tmp_path: Path) -> Path:
    return skeletons.make_dataset(tmp_path / 'my bids', *NAMES, empty=True)


@pytest.fixture
def hpc(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the tool in a folder of its own; the image is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'app.sif').touch()

    def call(*words: object, scheduler: str = 'slurm', image: str = 'app.sif'):
        given = ['--image', image] if image else []
        line = ['hpc', scheduler, str(dataset), 'out', *given, *map(str, words)]
        return CliRunner().invoke(tools, line)

    return call


def test_scripts_of_a_dataset(hpc, tmp_path: Path) -> None:
    done = hpc('--', '--dose', '0.5', '1')
    assert done.exit_code == 0, done.output
    folder = tmp_path / 'bids_interp-jobs'
    assert sorted(path.name for path in folder.iterdir()) == [
        'group.sbatch', 'logs', 'participant.sbatch', 'participants.txt', 'submit.sh'
    ]  # fmt: skip
    assert (folder / 'participants.txt').read_text() == '01\n02\n03\n'
    script = (folder / 'participant.sbatch').read_text()
    assert '#SBATCH --array=1-3\n' in script
    assert '    --dose 0.5 --dose 1\n' in script
    assert str(tmp_path / 'app.sif') in script
    assert f'{tmp_path / "out" / ".bids_interp_work"}/$name' in script
    assert '--dose' not in (folder / 'group.sbatch').read_text()
    assert stat.S_IMODE((folder / 'submit.sh').stat().st_mode) == 0o755
    assert f'Submit with: bash {folder}/submit.sh' in done.output
    assert '3 participants, 4 T1w images' in done.output
    assert not (tmp_path / 'out').exists()


def test_requests_reach_the_scheduler(hpc, tmp_path: Path) -> None:
    words = '--participant-label 01,02 sub-03 --cpus 6 --mem 12GiB --time 1-02:00:00 --gpus 1'
    words += ' --partition main --gpu-partition gpu --account lab --qos long --max-running 5'
    words += ' --group-mem 7GB --group-time 2h --scheduler-option=--exclude=node7 --out jobs'
    done = hpc(*words.split(), '--group-options', "--group-by 'the group'")
    assert done.exit_code == 0, done.output
    script = (tmp_path / 'jobs' / 'participant.sbatch').read_text()
    for line in (
        'cpus-per-task=6', 'mem=12G', 'time=26:00:00', 'gres=gpu:1', 'partition=gpu', 'account=lab',
        'qos=long', 'array=1-3%5', 'exclude=node7', 'requeue', 'signal=B:TERM@120',
    ):  # fmt: skip
        assert f'#SBATCH --{line}\n' in script
    group = (tmp_path / 'jobs' / 'group.sbatch').read_text()
    for line in ('mem=7G', 'time=02:00:00', 'partition=main'):
        assert f'#SBATCH --{line}\n' in group
    assert "    --group-by 'the group'\n" in group
    assert 'gres' not in group


def test_training_comes_first(hpc, tmp_path: Path) -> None:
    done = hpc('--train-options', '--label group --positive patient', '--gpu-partition', 'gpu')
    assert done.exit_code == 0, done.output
    script = (tmp_path / 'bids_interp-jobs' / 'train.sbatch').read_text()
    assert '#SBATCH --partition=gpu\n#SBATCH --gres=gpu:1\n' in script
    assert '"$bids" "$out" train\n' in script
    assert ' --nv' in script
    participant = (tmp_path / 'bids_interp-jobs' / 'participant.sbatch').read_text()
    assert '--partition' not in participant


def test_only_missing_leaves_out_who_has_all_images(hpc, tmp_path: Path) -> None:
    for name in ('sub-01', 'sub-03_ses-a'):
        path = tmp_path / 'out' / name[:6] / 'anat' / f'{name}_desc-explain_prediction.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done = hpc('--only-missing')
    assert done.exit_code == 0, done.output
    assert (tmp_path / 'bids_interp-jobs' / 'participants.txt').read_text() == '02\n03\n'
    done = hpc('--only-missing', '--participant-label', '01')
    assert done.exit_code == 3
    assert 'All 1 participants are finished' in done.output


def test_other_scripts_are_not_replaced(hpc, tmp_path: Path) -> None:
    assert hpc().exit_code == 0
    assert hpc().exit_code == 0  # the same again
    folder = tmp_path / 'bids_interp-jobs'
    before = (folder / 'participants.txt').read_text()
    done = hpc('--participant-label', '02')
    assert done.exit_code == 2
    assert 'participant.sbatch, participants.txt' in done.output
    assert '--overwrite' in done.output
    assert (folder / 'participants.txt').read_text() == before
    assert hpc('--participant-label', '02', '--overwrite').exit_code == 0
    assert (folder / 'participants.txt').read_text() == '02\n'


def test_dry_run_prints_and_writes_nothing(hpc, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    done = hpc('--dry-run', '--no-group', scheduler='lsf')
    assert done.exit_code == 0, done.output
    assert '#BSUB -J "bi_participant[1-3]"' in done.output
    assert 'group.lsf' not in done.output
    assert sorted(tmp_path.iterdir()) == before


def test_paths_in_the_options_are_bound_and_absolute(hpc, tmp_path: Path) -> None:
    for folder in ('my model', 'prep', 'pre2'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'filter.json').write_text('{"t1w": {"session": null}}')
    (tmp_path / 'smoothgrad').touch()  # a file that is called like a value
    words = ['--model', 'my model', '--derivatives', 'fp=prep', 'pre2', '-vv']
    words += ['--bids-filter-file=filter.json', '--saliency', 'smoothgrad']
    words += ['--bids-database-dir', 'index']
    done = hpc('--templateflow', 'prep', '--', *words)
    assert done.exit_code == 0, done.output
    script = (tmp_path / 'bids_interp-jobs' / 'participant.sbatch').read_text()
    (line,) = [line for line in script.splitlines() if line.startswith('    --model')]
    assert line.split(' --saliency')[0].strip() == (
        f"--model '{tmp_path}/my model' --derivatives fp={tmp_path}/prep "
        f'--derivatives pre2={tmp_path}/pre2 -vv --bids-filter-file {tmp_path}/filter.json'
    )
    assert '--saliency smoothgrad ' in line
    for name in ('my model', 'prep', 'pre2', 'filter.json'):
        assert f'{tmp_path}/{name}:{tmp_path}/{name}:ro' in script
    assert f'--bind {tmp_path}/index:{tmp_path}/index\n' in script
    assert f'--env TEMPLATEFLOW_HOME={tmp_path}/prep\n' in script
    # The filter chose the participants too.
    assert (tmp_path / 'bids_interp-jobs' / 'participants.txt').read_text() == '01\n02\n'


@pytest.mark.parametrize('prefix', ['', 'MNI152NLin6Asym:'])
def test_an_atlas_is_bound_with_its_table(
    prefix: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {tmp_path / 'aal.nii.gz', tmp_path / 'aal.tsv'}
    for file in files:
        file.touch()
    words = ['--atlas', f'{prefix}aal.nii.gz']
    options = read_app_options(words, dataset, tmp_path / 'out', 'participant')
    assert set(options.read_only) == files
    assert options.words == ('--atlas', f'{prefix}{tmp_path}/aal.nii.gz')
    named = read_app_options(['--atlas', 'A:Two'], dataset, tmp_path / 'out', 'participant')
    assert (named.read_only, named.words) == ((), ('--atlas', 'A:Two'))


def test_paths_in_a_settings_file_are_bound(dataset: Path, tmp_path: Path) -> None:
    model = tmp_path / 'model'
    model.mkdir()
    config = tmp_path / 'old.toml'
    config.write_text(Settings(dataset, tmp_path / 'out', model=model).to_toml())
    options = read_app_options(
        ['--config-file', str(config)], dataset, tmp_path / 'out', 'participant'
    )
    assert set(options.read_only) == {model, config}
    assert options.settings.model == model


def test_paths_of_other_levels_in_a_settings_file_are_left_out(
    dataset: Path, tmp_path: Path
) -> None:
    config = tmp_path / 'old.toml'
    settings = Settings(dataset, tmp_path / 'out', labels='/no/labels.tsv', null_models=('/no/n',))
    config.write_text(settings.to_toml())
    words = ['--config-file', str(config)]
    options = read_app_options(words, dataset, tmp_path / 'out', 'participant')
    assert options.read_only == (config,)
    with pytest.raises(UsageError, match='/no/n'):
        read_app_options(words, dataset, tmp_path / 'out', 'group')


def test_the_model_of_the_environment_is_handed_on(hpc, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / 'model').mkdir()
    monkeypatch.setenv('BIDS_INTERP_MODEL', str(tmp_path / 'model'))
    assert hpc().exit_code == 0
    script = (tmp_path / 'bids_interp-jobs' / 'participant.sbatch').read_text()
    assert f'--env BIDS_INTERP_MODEL={tmp_path}/model\n' in script
    assert f'--bind {tmp_path}/model:{tmp_path}/model:ro\n' in script


@pytest.mark.parametrize(
    ('words', 'code', 'named'),
    [
        (['--', '--dosis', '1'], 2, '--dosis'),
        (['--', '--dose', '2'], 2, '--dose'),
        (['--', '--folds', '3'], 2, '--folds (train)'),
        (['--', '--model', 'none'], 2, '--model'),
        (['--', '--nprocs', '4'], 2, '--cpus'),
        (['--', '--work-dir', 'x'], 2, '--work-dir'),
        (['--', '--participant-label', '01'], 2, '--participant-label'),
        (['--', '--version'], 2, '--version'),
        (['--group-options', '--dosis'], 2, '--dosis'),
        (['--group-options', '--dose 0.5'], 2, '--dose (participant)'),
        (['--train-options', ''], 2, '--label'),
        (['--train-options', '--label group --tfce'], 2, '--tfce (group)'),
        (['--no-group', '--group-mem', '8GB'], 2, '--group-mem'),
        (['--no-group', '--dependency', 'afterok'], 2, '--dependency'),
        (['--train-time', '8h'], 2, '--train-time'),
        (['--program', 'bids_interp'], 2, '--program'),
        (['--bind', 'none'], 4, 'none'),
        (['--participant-label', '99'], 3, '99'),
        (['--time', '90'], 2, '--time'),
        (['--mem', '8'], 2, '--mem'),
        (['--dry-run', '--submit'], 2, '--submit'),
        (['--out', '/proc/jobs'], 2, '/proc/jobs'),
        (['--work-dir', '/proc/version/work'], 2, '/proc/version/work'),
        (['--engine', 'none'], 2, '--image'),
    ],
)
def test_mistakes_are_named_before_a_job_waits(hpc, words, code: int, named: str) -> None:
    done = hpc(*words)
    assert done.exit_code == code, done.output
    assert named in done.output


def test_missing_image_program_and_scheduler(hpc) -> None:
    done = hpc(image='no.sif')
    assert done.exit_code == 4
    assert 'no.sif' in done.output
    assert hpc(image='docker://registry/bids_interp', scheduler='pbs').exit_code == 0
    done = hpc('--engine', 'none', '--program', 'nowhere', image='')
    assert (done.exit_code, 'nowhere' in done.output) == (4, True)
    done = hpc(scheduler='slrum')
    assert done.exit_code == 2
    assert "'slurm', 'pbs', 'torque', 'sge', 'lsf'" in done.output


def test_lists_and_folders_in_any_order(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ['--participant-label', '01', '03', 'slurm', str(dataset), str(tmp_path / 'out')]
    done = CliRunner().invoke(tools, ['hpc', '--image', 'docker://x/y', *words, '--', '-vv'])
    assert done.exit_code == 0, done.output
    folder = tmp_path / 'bids_interp-jobs'
    assert (folder / 'participants.txt').read_text() == '01\n03\n'
    assert '    -vv\n' in (folder / 'participant.sbatch').read_text()


def fake_sbatch(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / 'sbatch').write_text(f'#!/bin/bash\n{text}\n')
    (folder / 'sbatch').chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')


def test_submit_prints_the_numbers_of_the_jobs(hpc, tmp_path: Path, monkeypatch) -> None:
    counts = 'echo x >>"$0.count"; wc -l <"$0.count"'
    fake_sbatch(tmp_path / 'bin', counts, monkeypatch)
    done = hpc('--submit')
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-2:] == ['submitted participant 1', 'submitted group 2']


def test_a_refusal_of_the_scheduler_is_told(hpc, tmp_path: Path, monkeypatch) -> None:
    refuses = 'echo "sbatch: error: Invalid partition" >&2; exit 1'
    fake_sbatch(tmp_path / 'bin', f'[[ $* != *dependency* ]] && {{ echo 7; exit; }}\n{refuses}',
                monkeypatch)  # fmt: skip
    done = hpc('--submit')
    assert done.exit_code == 1
    assert 'sbatch refused a job: sbatch: error: Invalid partition.' in done.output
    assert '--partition' in done.output
    assert 'participant 7' in done.output


def test_no_scheduler_on_this_machine(hpc, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('PATH', '/usr/bin-is-not-here')
    done = hpc('--submit')
    assert done.exit_code == 1
    assert 'sbatch' in done.output
    assert str(tmp_path / 'bids_interp-jobs' / 'submit.sh') in done.output.splitlines()[-1]
    assert (tmp_path / 'bids_interp-jobs' / 'submit.sh').exists()


def test_estimate_grows_with_images_and_voxels(dataset: Path) -> None:
    records = collect(Settings(dataset, '/out'))
    shapes = [(160, 192, 192)] * 4
    one = estimate_participant(records[:2], shapes[:2])
    assert (one.cpus, one.mem_gb, one.minutes) == (2, 5, LEAST_MINUTES)
    two = estimate_participant(records, shapes)
    assert (two.cpus, two.mem_gb) == (4, 9)
    assert estimate_participant(records, shapes, cpus=2).mem_gb == 5
    large = estimate_participant(records[:2], [(320, 384, 384)] * 2, saliency=True)
    assert (large.mem_gb, large.minutes) == (33, 60)
    assert estimate_participant(records[:1], [(10, 10, 10)]) == one
    assert estimate_group(10).minutes == LEAST_MINUTES
    assert estimate_group(10_000).mem_gb == estimate_group(10).mem_gb == 3
    assert estimate_group(10_000).minutes > 100 * LEAST_MINUTES / 2
    assert estimate_group(10_000, voxelwise=True).mem_gb == 8


def test_voxels_are_read_from_the_header(skeletons, tmp_path: Path) -> None:
    root = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    (root / 'sub-02' / 'anat').mkdir(parents=True)
    (root / 'sub-02' / 'anat' / 'sub-02_T1w.nii.gz').write_bytes(b'damaged')
    shapes = image_shapes(collect(Settings(root, tmp_path / 'out')))
    assert shapes[0] == (45, 50, 45)
    assert abs(shapes[1][0] ** 3 / BENCH_VOXELS - 1) < 0.02


def test_stray_words_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='stray'):
        read_app_options(['stray'], dataset, tmp_path / 'out', 'participant')


def test_help_is_light() -> None:
    code = (
        'import sys\n'
        'from bids_interp.cli.tools.command import main\n'
        'try:\n'
        "    main(['hpc', '--help'])\n"
        'except SystemExit as end:\n'
        "    heavy = {'torch', 'nipype', 'bids', 'nibabel', 'jinja2', 'numpy'} & set(sys.modules)\n"
        '    sys.exit(end.code or str(sorted(heavy)) if heavy else 0)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '{slurm|pbs|torque|sge|lsf} BIDS_DIR' in done.stdout
