FROM base
CMD ["a\tb", "\"q\"", "\u00e9", "back\\slash", "new\nline", "文", "\u0001"]
