"""Parts of all reports: colours, slices, sections and page templates."""
