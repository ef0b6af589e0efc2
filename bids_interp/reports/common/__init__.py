"""Parts shared by all reports: colours, slices, sections and page templates."""
