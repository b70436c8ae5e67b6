FROM base
CMD ["a"] trailing
