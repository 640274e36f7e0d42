"""What runs inside of a task: functions of users, and operations on columns and rows."""
