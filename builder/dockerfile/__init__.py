"""Text → logical lines → lark → typed instructions; expansion; ignore files."""
