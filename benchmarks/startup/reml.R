# The same as reml.py.
library(lme4)
data <- read.csv(commandArgs(trailingOnly = TRUE)[1], colClasses = c(Subject = "character"))
print(summary(lmer(Reaction ~ Days + (1 + Days | Subject), data)))
