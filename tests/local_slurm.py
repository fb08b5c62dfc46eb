"""A real one-node Slurm on the loopback address, without systemd and without accounting: installed, started, hurt and stopped by the tests.

Needs root and Debian's packages (slurmctld, slurmd, slurm-client, munge), which `install` gets with apt where they are missing. The
daemons' state lies in one folder. /etc/slurm must point there while Slurm runs, since the jobs' own srun looks there; a machine that
has a Slurm of its own is left alone.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

ETC = Path("/etc/slurm")
NODE = "test1"
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch")


def install() -> None:
    """Get the daemons, unless they are there.

    Raises:
        RuntimeError: This machine cannot have them: not root, no apt, no such packages, or a Slurm of its own.
    """
    if os.geteuid() != 0:
        raise RuntimeError("its daemons need root")
    if ETC.joinpath("slurm.conf").exists() and not ETC.joinpath("slurm.conf").is_symlink():
        raise RuntimeError("this machine has a Slurm of its own: /etc/slurm/slurm.conf")
    if all(map(shutil.which, DAEMONS)):
        return
    if not shutil.which("apt-get"):
        raise RuntimeError("there is no apt-get to install it with")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "slurmctld", "slurmd", "slurm-client", "munge"]):
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "Acquire::Retries=3", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode and command[0] == "install":
            raise RuntimeError(f"apt-get {command[0]} failed: {done.stdout.strip().splitlines()[-1:]}")


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Slurm:
    """The cluster: `with Slurm(folder) as slurm`."""

    def __init__(self, folder: Path, cpus: int = 4, gpus: int = 2) -> None:
        self.folder, self.cpus, self.gpus = folder, cpus, gpus

    def __enter__(self) -> "Slurm":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self._configure()
        munge = self.folder / "munge"
        options = [f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"]
        subprocess.run(["munged", "--force", *options], check=True)
        self.start_controller()
        subprocess.run(["slurmd", "-f", self.folder / "slurm.conf", "-N", NODE], check=True)
        self.wait_until(lambda: self.ask("sinfo", "-h", "-o", "%T") in ("idle", "mixed", "allocated"), "the node is up")

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", "--full", "-u", "root"], check=False)
        time.sleep(1)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            self._end(name)
        for file in FILES:
            if (ETC / file).is_symlink():
                (ETC / file).unlink()

    def _configure(self) -> None:
        for name in ("state", "spool", "log", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        (self.folder / "munge").chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        # As with the CPUs, the node may seem to have more: nothing holds a job to what it asked for, and a third attempt asks for much.
        memory = max(64_000, int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20))
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/munge/socket",
            "CredType": "cred/munge",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "SlurmctldLogFile": self.folder / "log/slurmctld.log",
            "SlurmdLogFile": self.folder / "log/slurmd.log",
            "CommunicationParameters": "NoAddrCache",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SlurmdParameters": "config_overrides",  # the node may have more CPUs and memory than the machine
            "SchedulerParameters": "sched_interval=1,sched_min_interval=100000,bf_interval=1",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/filetxt",
            "JobCompLoc": self.folder / "log/finished.log",
            "MinJobAge": 300,
            "KillWait": 2,
            "GresTypes": "gpu",
        }
        node = f"NodeName={NODE} NodeAddr=127.0.0.1 NodeHostname={host} CPUs={self.cpus} RealMemory={memory} Gres=gpu:{self.gpus} State=UNKNOWN"
        partition = "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        (self.folder / "slurm.conf").write_text("\n".join([*(f"{key}={value}" for key, value in settings.items()), node, partition]) + "\n")
        # A GPU of Slurm is a character device; clones of /dev/null stand for them, and where there may be none, a mere number.
        gres = [f"NodeName={NODE} Name=gpu File={self.folder}/gpu{i}\n" for i in range(self.gpus)]
        try:
            for i in range(self.gpus):
                device = self.folder / f"gpu{i}"
                if not device.exists():
                    os.mknod(device, 0o20666, os.makedev(1, 3))
        except PermissionError:
            gres = [f"NodeName={NODE} Name=gpu Count={self.gpus}\n"]
        (self.folder / "gres.conf").write_text("".join(gres))
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        ETC.mkdir(exist_ok=True)
        for file in FILES:
            (ETC / file).unlink(missing_ok=True)
            (ETC / file).symlink_to(self.folder / file)

    def _end(self, name: str) -> None:
        """End a daemon of ours, and wait until it is gone."""
        try:
            process = int((self.folder / name).read_text())
            os.kill(process, signal.SIGTERM)
        except (OSError, ValueError):
            return
        for _ in range(60):
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return
            time.sleep(0.25)
        os.kill(process, signal.SIGKILL)

    def start_controller(self) -> None:
        """Start slurmctld."""
        subprocess.run(["slurmctld", "-f", self.folder / "slurm.conf"], check=True)

    def restart_controller(self, pause_s: float = 3.0) -> None:
        """End slurmctld, leave it away for a while, and start it again."""
        self._end("slurmctld.pid")
        time.sleep(pause_s)
        self.start_controller()

    def ask(self, *command: str) -> str:
        """What a command of Slurm says; empty if it fails."""
        return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()

    def jobs(self) -> list[tuple[str, str, str]]:
        """Id, state and comment (which holds the rule) of each job that is pending or running."""
        lines = self.ask("squeue", "-h", "-o", "%i|%T|%k").splitlines()
        return [(a, b, c) for a, b, c in (line.split("|", 2) for line in lines)]

    def node(self, state: str) -> None:
        """Drain or resume the node; a controller that has just been started knows its node only after a while."""
        command = ["scontrol", "update", f"nodename={NODE}", f"state={state}", *(["reason=test"] if state == "drain" else [])]
        self.wait_until(lambda: subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0, f"the node takes {state}")

    def wait_until(self, holds: object, what: str, limit_s: float = 60) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + limit_s
        while not holds():  # type: ignore[operator]
            if time.monotonic() > deadline:
                logs = "\n".join(p.read_text()[-1500:] for p in sorted((self.folder / "log").glob("slurm*.log")))
                raise RuntimeError(f"not in {limit_s:.0f} s: {what}\n{logs}")
            time.sleep(0.2)
