"""Stand-ins of ROS 2's modules whose messages are those of `rosbags`: a node runs without ROS."""

import sys
import types
from typing import Any

from repository import REPO

PACKAGE = REPO / "ros" / "ace_jax_ros"


class Time(int):
    """Nanoseconds."""

    def __new__(cls, nanoseconds: int = 0) -> "Time":
        return super().__new__(cls, nanoseconds)

    @property
    def nanoseconds(self) -> int:
        return int(self)


class TransformException(Exception):
    """TF does not know it."""


class World:
    """What the stand-ins share.

    Attributes:
        published: messages by topic, in order.
        transforms: those that were broadcast.
        callbacks: by topic.
        parameters: that are set; others have their defaults.
        tf: TransformStamped by (parent, child).
        logged: lines.
    """

    def __init__(self) -> None:
        self.published: dict[str, list[Any]] = {}
        self.transforms: list[Any] = []
        self.callbacks: dict[str, Any] = {}
        self.timers: list[Any] = []
        self.parameters: dict[str, Any] = {}
        self.tf: dict[tuple[str, str], Any] = {}
        self.logged: list[str] = []


def install(monkeypatch: Any, world: World, constructors: dict[str, Any]) -> None:
    """Puts the modules in place, and the package on the path."""

    class Logger:
        def warning(self, line: str, **_: Any) -> None:
            world.logged.append(line)

        info = error = warning

    class Node:
        def __init__(self, name: str) -> None:
            self._name = name

        def get_name(self) -> str:
            return self._name

        def declare_parameter(self, key: str, value: Any) -> Any:
            return types.SimpleNamespace(value=world.parameters.get(key, value))

        def create_publisher(self, kind: Any, topic: str, _: Any) -> Any:
            world.published[topic] = []
            return types.SimpleNamespace(publish=world.published[topic].append)

        def create_subscription(self, kind: Any, topic: str, callback: Any, _: Any) -> None:
            world.callbacks[topic] = callback

        def create_timer(self, _: float, callback: Any) -> None:
            world.timers.append(callback)

        def get_logger(self) -> Logger:
            return Logger()

        def get_clock(self) -> Any:
            return types.SimpleNamespace(now=lambda: Time(10**18))

    class Buffer:
        def lookup_transform(self, parent: str, child: str, at: Time, timeout: Any) -> Any:
            if (parent, child) not in world.tf:
                raise TransformException(f"{parent} and {child} are not connected")
            return world.tf[parent, child]

    def broadcaster(_: Any) -> Any:
        return types.SimpleNamespace(sendTransform=world.transforms.append)

    messages = {
        package: {
            key.split("/")[-1]: make
            for key, make in constructors.items()
            if key.startswith(f"{package}/msg/")
        }
        for package in ("diagnostic_msgs", "geometry_msgs", "nav_msgs", "sensor_msgs")
    }
    for name, content in {
        "rclpy": {},
        "rclpy.duration": {"Duration": lambda seconds: seconds},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {"qos_profile_sensor_data": None},
        "rclpy.time": {"Time": Time},
        "rosidl_runtime_py": {},
        # ROS wants bytes for the level of a status, rosbags a number.
        "rosidl_runtime_py.utilities": {"get_message": lambda key: _as_number(key, constructors)},
        "tf2_ros": {
            "Buffer": Buffer,
            "TransformBroadcaster": broadcaster,
            "TransformException": TransformException,
            "TransformListener": lambda *_: None,
        },
        **_LAUNCH,
        **{f"{package}.msg": content for package, content in messages.items()},
        **{package: {} for package in messages},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(PACKAGE))


class Described(types.SimpleNamespace):
    """What a launch file says: the arguments of `launch`'s classes, by position or by name."""

    def __init__(self, *said: Any, **named: Any) -> None:
        super().__init__(said=said, **named)


def _kinds(*names: str) -> dict[str, type[Described]]:
    return {name: type(name, (Described,), {}) for name in names}


_LAUNCH = {
    "launch": _kinds("LaunchDescription"),
    "launch.actions": _kinds("DeclareLaunchArgument"),
    "launch.substitutions": _kinds("LaunchConfiguration", "PathJoinSubstitution"),
    "launch_ros": {},
    "launch_ros.actions": _kinds("Node"),
    "launch_ros.substitutions": _kinds("FindPackageShare"),
}


def _as_number(key: str, constructors: dict[str, Any]) -> Any:
    make = constructors[key]
    if not key.endswith("/DiagnosticStatus"):
        return make

    def status(level: bytes, **fields: Any) -> Any:
        assert isinstance(level, bytes)
        return make(level=level[0], **fields)

    return status
