"""Query pre-training: many scenes in, one scene-agnostic transformer out."""
