"""What each precision of each layer is predicted to cost."""
