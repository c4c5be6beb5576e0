"""What a run tells of itself: logs, heartbeat, activity, status."""
