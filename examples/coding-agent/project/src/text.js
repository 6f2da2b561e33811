/** Every word with a capital first letter. */
export function titleCase(text) {
  return text.replace(/\S+/g, (word) => word[0].toUpperCase() + word.slice(1));
}
