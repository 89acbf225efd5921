mod harness;
mod properties;
mod rules;
mod terms;
mod worlds;
