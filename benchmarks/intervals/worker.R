# Time lme4's profile intervals and bootstrap of a model that is fitted already.
suppressMessages({library(lme4); library(jsonlite)})
a <- commandArgs(trailingOnly = TRUE)
data <- read.csv(a[1], stringsAsFactors = TRUE)
for (name in strsplit(a[2], ",")[[1]]) data[[name]] <- factor(data[[name]])
formula <- as.formula(a[3])
nsim <- as.integer(a[5])
fit <- if (a[4] == "gaussian") lmer(formula, data) else glmer(formula, data, family = a[4])
cpu <- function(e) { t <- system.time(e); sum(t[1:2]) }
profile <- cpu(ends <- suppressWarnings(suppressMessages(
  confint(fit, method = "profile", oldNames = FALSE, quiet = TRUE))))
# Each replicate is refitted, and its coefficients taken.
boot <- cpu(suppressWarnings(suppressMessages(bootMer(fit, fixef, nsim = nsim, seed = 1))))
p <- length(fixef(fit))
last <- ends[(nrow(ends) - p + 1):nrow(ends), , drop = FALSE]
write_json(list(profile = profile, bootstrap = boot / nsim, lower = I(last[, 1]), upper = I(last[, 2])),
           a[6], digits = 10, auto_unbox = TRUE)
