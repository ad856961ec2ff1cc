"""ROS 2 nodes of ace_jax. Only `node`, `slam_node` and `localization_node` import ROS."""
