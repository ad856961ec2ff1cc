"""The package as `colcon build` installs it."""

from setuptools import setup

NAME = "ace_jax_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/slam.launch.py", "launch/localization.launch.py"]),
        (f"share/{NAME}/config", ["config/slam.yaml", "config/localization.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The ace_jax maintainers",
    maintainer_email="ace_jax@users.noreply.github.com",
    description="RGB-D SLAM and localization in a map by ace_jax",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"slam = {NAME}.slam_node:main",
            f"localization = {NAME}.localization_node:main",
        ]
    },
)
