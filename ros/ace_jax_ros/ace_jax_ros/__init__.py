"""ROS 2 nodes of ace_jax. Only `node`, `slam_node`, `localization_node`, `launching` import ROS."""
