// What all of the page needs.

export const at = (selector) => document.querySelector(selector);

// A name without what ends a line or turns the text after it around.
export const plain = (name) => name.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, "\uFFFD");

// What is known of somebody: a new key that waits to be accepted is what counts, whatever was compared before.
export const trustOf = (known) => (known?.newKey ? "Unaccepted" : known?.trust);

// What went wrong, and what to do about it.
export const words = (error) => (error.remedy ? `${error.message} (${error.remedy})` : (error.message ?? `${error}`));

export function report(error) {
    const trouble = at("#trouble");
    trouble.hidden = !error;
    if (!error) return;
    trouble.textContent = words(error);
    console.error(error);
}
